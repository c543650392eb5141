"""Checking a run's secure sums afterwards, from its folder alone."""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import safetensors
from safetensors.numpy import load_file

from fairyring.core.errors import RunDamaged, RunError, SecureSumError
from fairyring.core.packing import unpack_words
from fairyring.core.record import RunFolder
from fairyring.core.vector import digest
from fairyring.secagg import Transcript, verify
from fairyring.secagg.keystream import word_of
from fairyring.simulation.transcripts import TRANSCRIPTS


@dataclass(frozen=True)
class Verified:
    """What was checked of a run.

    Attributes:
        rounds: how many rounds have a transcript, all of which hold.
        aborted: rounds whose session ended without a sum.
        fewest: the fewest devices in a sum.
        sums: rounds whose sum itself was there, and is the one the transcript names.
        models: rounds whose model was there, and is the one every device's masks are bound to.
        says: what the terms promise.
    """

    rounds: int
    aborted: tuple[int, ...]
    fewest: int
    sums: tuple[int, ...]
    models: tuple[int, ...]
    says: str


def verify_run(run: str | os.PathLike[str]) -> Verified:
    """Check every transcript of a run folder, offline: hashes, signatures, sets and thresholds, round by round.

    Each transcript must be of the run's plan and of its own round, and count as many clients as the round's record. The
    sums of the last two rounds are kept, and the models of the last two checkpoints; they are checked too.

    Args:
        run: the folder of a run with `secure_sum="protocol"`.

    Raises:
        RunError: there is no such run, or it has no transcripts.
        RunDamaged: a file cannot be read, or is missing.
        SecureSumError: a transcript does not hold; the error names the round.
    """
    folder = RunFolder.open(run)
    header, records = folder.read("run.json"), folder.metrics()
    if header.get("secure_sum") != "protocol":
        raise RunError(
            f"run folder {folder.path}",
            given="a run whose updates were not summed by the masked protocol",
            expected="one of simulate(..., secure_sum='protocol')",
            do="Run it so; there is nothing to check otherwise.",
        )
    plan = bytes.fromhex(header["fingerprints"]["plan"])
    sums, models, aborted, counts, says = [], [], [], [], ""
    for record in records:
        number = int(record["round"])
        if "aborted" in record:
            aborted.append(number)
            continue
        transcript = _read(folder.path / TRANSCRIPTS / f"round-{number:06d}.msgpack")
        terms = transcript.terms
        _same(number, transcript.round, number, "round")
        _same(number, transcript.count, record["clients"], "number of clients")
        _same(number, terms.plan, plan, "plan")
        kept = folder.path / TRANSCRIPTS / f"round-{number:06d}.sum"
        vector = None
        if kept.is_file():
            sums.append(number)
            try:
                vector = unpack_words(
                    kept.read_bytes(), terms.modulus_bits, terms.length, word_of(terms.modulus_bits)
                )
            except ValueError as error:
                raise _damaged(kept, str(error)) from error
        try:
            verify(transcript, vector)
        except SecureSumError as error:
            error.add_note(f"In round {number} of {folder.path}.")
            raise
        before = folder.path / "checkpoints" / f"round-{number - 1:06d}.safetensors"
        if before.is_file():
            models.append(number)
            _same(number, transcript.model, _model(before), "model")
        counts.append(transcript.count)
        says = terms.says()
    return Verified(len(counts), tuple(aborted), min(counts, default=0), tuple(sums), tuple(models), says)


def _read(path: Path) -> Transcript:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Transcript)
    except (OSError, msgspec.DecodeError) as error:
        raise _damaged(path, str(error)) from error


def _model(checkpoint: Path) -> bytes:
    """Digest of the model a round starts from: the checkpoint after the round before."""
    try:
        arrays = load_file(checkpoint)
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(checkpoint, str(error)) from error
    server = {name: array for name, array in sorted(arrays.items()) if name.startswith("server/")}
    parts = [
        [a for name, a in server.items() if name[11:].startswith(part)] for part in (".params", ".shared")
    ]
    return digest(array for part in parts for array in part)


def _same(number: int, given: object, expected: object, what: str) -> None:
    if given != expected:
        shown = [v.hex()[:12] if isinstance(v, bytes) else v for v in (given, expected)]
        raise SecureSumError(
            f"transcript of round {number}",
            given=f"{what} {shown[0]}",
            expected=f"{what} {shown[1]}, as the run's own record says",
            do="Do not trust this run: its transcripts or its record were changed.",
        )


def _damaged(path: Path, problem: str) -> RunDamaged:
    return RunDamaged(
        str(path), given=problem, expected="a file this run wrote", do="Restore it from a copy."
    )
