"""A run's history under masks: what its devices are told before a round of all that came before it, and sign after it.

The history is a chain of heads. Each is a digest of the head before it and of what happened since:

    the run        its random name; what run.json holds that never changes; plan.json and population.json
    a part         a process that began or resumed the run: after which round, for how many rounds in all, with which run.json
    a round        its line of metrics.jsonl, its transcript, the model that came of it
    one aborted    its line of metrics.jsonl: nothing was summed, and nothing changed
    the end        every file that is written then, run.json among them

The devices of a round are bound to the head before it, and those in its sum sign the one after it. Only the last
signatures are kept: with those of an earlier round the run could be passed off as one that ended there.
"""

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from fairyring.learning.plan import Plan
from fairyring.records.folder import RunFolder
from fairyring.records.layout import (
    CHECKPOINTS,
    CLIENTS,
    EXHIBIT,
    INIT,
    METRICS,
    MODEL,
    MODELS,
    PLAN,
    POPULATION,
    RUN,
    SEAL,
    SIGNED,
    TRANSCRIPTS,
)
from fairyring.records.reading import converted, read_as
from fairyring.records.round_record import RoundRecord
from fairyring.rounds.spending import complete
from fairyring.secagg.history import linked
from fairyring.secagg.terms import Digest

HISTORY = "history"  # in run.json, and in a checkpoint's facts
FIXED = ("seed", "dropout", "secure_sum", "canaries", "fingerprint", "fingerprints")
AT_THE_END = (RUN, PLAN, POPULATION, METRICS, CLIENTS)
IF_THERE = (
    *(MODEL, INIT, MODELS + "/round-*.safetensors", CHECKPOINTS + "/round-*.safetensors"),
    *(TRANSCRIPTS + "/round-*.sum", EXHIBIT),
)

Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]
Signatures = tuple[tuple[Count, bytes], ...]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one process ran of a run.

    Attributes:
        after: the round after which the process began; 0 for a new run.
        rounds: how many rounds the run was to have in all.
        run: digest of what run.json held then.
        ended: digest of all files that the part before wrote at its end, if it came to an end.
    """

    after: Count
    rounds: Count
    run: Hex
    ended: Hex | None = None


class Course(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What run.json keeps of a history.

    Attributes:
        run: the run's name: 32 random bytes.
        sums: whether the sums of the last rounds are kept.
        parts: what each process ran, in order.
    """

    run: Hex
    sums: bool
    parts: tuple[Part, ...] = ()

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> "Course | None":
        """The history in the content of run.json; None if none is kept.

        Raises:
            RunDamaged: it is malformed.
        """
        kept = header.get(HISTORY)
        return None if kept is None else converted(Path(RUN), kept, cls)


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The head after the last round, signed by every device in the last sum.

    Attributes:
        round: the last round.
        head: the head after it.
        model: digest of the model after it.
        signatures: by device; empty if no such device was left in the process.
    """

    round: Count
    head: Digest
    model: Digest
    signatures: Signatures


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end of a run: SHA-256 of every file that was written then, signed as the last head is.

    Attributes:
        head: the head before the end.
        files: digests by file name.
        signatures: of the head after it, by device.
    """

    head: Digest
    files: dict[str, Digest]
    signatures: Signatures

    @property
    def written(self) -> bytes:
        """Digest of all files that were written."""
        return hashlib.sha256(msgspec.msgpack.encode(sorted(self.files.items()))).digest()

    @property
    def end(self) -> bytes:
        """The head after it."""
        return head_of_end(self.head, self.written)


def new_course(plan: Plan) -> dict[str, Any]:
    """The history of a new run, before its first round."""
    noise = plan.bound.spec.noise
    sums = plan.protection is None or (noise is not None and complete(noise))
    return msgspec.to_builtins(Course(secrets.token_hex(32), sums))


def head_of_run(folder: Path, header: Mapping[str, Any], course: Course) -> bytes:
    """The head before the first part."""
    fixed = {name: header.get(name) for name in FIXED} | {"sums": course.sums}
    files = (hashlib.sha256((folder / name).read_bytes()).digest() for name in (PLAN, POPULATION))
    return linked(bytes.fromhex(course.run), "run", _canonical(fixed), *files)


def head_of_part(head: bytes, part: Part) -> bytes:
    """The head after a part was begun."""
    return linked(head, "part", msgspec.json.encode(part))


def head_of_round(head: bytes, line: bytes, transcript: bytes | None, model: bytes) -> bytes:
    """The head after a round.

    Args:
        head: before it.
        line: of metrics.jsonl, without its end.
        transcript: as it is kept; None of a round that was aborted.
        model: digest of the model after it.
    """
    if transcript is None:
        return linked(head, "aborted", line)
    return linked(head, "round", line, transcript, model)


def head_of_end(head: bytes, written: bytes) -> bytes:
    """The head after a run's end, at which files of this digest were written."""
    return linked(head, "end", written)


def digest_of_header(header: Mapping[str, Any]) -> str:
    """Digest of what run.json holds, without the history."""
    kept = {name: value for name, value in header.items() if name != HISTORY}
    return hashlib.sha256(_canonical(kept)).hexdigest()


def digests_of(folder: Path) -> dict[str, bytes]:
    """SHA-256 of every file that a run's end covers."""
    names = [*AT_THE_END, *(str(p.relative_to(folder)) for pattern in IF_THERE for p in folder.glob(pattern))]
    digests = {}
    for name in names:
        with open(folder / name, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").digest()
    return digests


def end_of(folder: Path) -> str | None:
    """The head at a run's end, to be noted elsewhere: 64 hexadecimal digits; None if it has none."""
    seal = folder / SEAL
    return read_as(Seal, seal).end.hex() if seal.is_file() else None


class Signers(Protocol):
    """The devices of a run that sign its history."""

    def attest(self, head: bytes) -> Signatures:
        """Signatures of a head by all devices whose vectors are in the last sum; none before the first sum."""
        ...


class History:
    """Keeps a run's history while it runs.

    Args:
        folder: of the run.
        header: what run.json is written from; it holds the history.
        signers: the devices that sign.
        round: how many rounds are over: 0, or as many as at the checkpoint.
        head: the head after that round, from the checkpoint.
    """

    def __init__(
        self, folder: RunFolder, header: dict[str, Any], signers: Signers, round: int, head: str | None
    ) -> None:
        self.folder, self.header, self.signers, self.round = folder, header, signers, round
        course = Course.of(header)
        assert course is not None
        self._course = course
        self.head = bytes.fromhex(head) if round and head else head_of_run(folder.path, header, course)
        self._announced: bytes | None = None

    @property
    def facts(self) -> dict[str, str]:
        """What a checkpoint must remember."""
        return {HISTORY: self.head.hex()}

    @property
    def untouched(self) -> bool:
        """Whether the run had come to its end and nothing was run since."""
        return self._announced is None and (self.folder.path / SEAL).is_file()

    def before(self, model: bytes) -> bytes:
        """The head before the next round, which its devices are told.

        Args:
            model: digest of the model they start from.
        """
        if self._announced is None:
            self._announced = self._begin(model)
        return self._announced

    def add(self, record: RoundRecord, transcript: bytes | None, model: bytes) -> None:
        """Add a round that is over, and in metrics.jsonl.

        Args:
            record: of the round.
            transcript: of its secure sum, as it is kept; None where there was no sum.
            model: digest of the model after it.
        """
        head = head_of_round(self.before(model), record.line(), transcript, model)
        self._sign(self.round + 1, head, model, self.signers.attest(head))
        # Only now, so that it may be added again where that failed.
        self.round, self.head, self._announced = self.round + 1, head, head

    def end(self) -> None:
        """Seal the run, once everything that is written at its end has been written."""
        assert self._announced is not None
        seal = Seal(self._announced, digests_of(self.folder.path), ())
        seal = msgspec.structs.replace(seal, signatures=self.signers.attest(seal.end))
        self.folder.write_bytes(SEAL, msgspec.msgpack.encode(seal))

    def _begin(self, model: bytes) -> bytes:
        """Note in run.json that this process has begun or resumed the run, and drop what was done after its checkpoint."""
        seal = self.folder.path / SEAL
        earlier = [part for part in self._course.parts if part.after < self.round]
        here = [part for part in self._course.parts if part.after == self.round]
        ended: str | None = None
        if seal.is_file():
            earlier, ended = earlier + here, read_as(Seal, seal).written.hex()
        elif taken_up := [place for place, part in enumerate(here) if part.ended]:
            # The run was resumed after an end, and killed before its next round was over.
            earlier, ended = earlier + here[: taken_up[-1]], here[taken_up[-1]].ended
        part = Part(self.round, self.header["rounds"], digest_of_header(self.header), ended)
        course = msgspec.structs.replace(self._course, parts=(*earlier, part))
        self.header[HISTORY] = msgspec.to_builtins(course)
        self.folder.write(RUN, self.header)
        seal.unlink(missing_ok=True)
        for path in self.folder.path.glob(TRANSCRIPTS + "/round-*"):
            number = path.stem.removeprefix("round-")
            if number.isdecimal() and int(number) > self.round:
                path.unlink()
        signed = self.folder.path / SIGNED
        if not self.round:
            signed.unlink(missing_ok=True)
        elif not signed.is_file() or read_as(Signed, signed).round != self.round:
            self._sign(
                self.round, self.head, model, ()
            )  # the devices that could sign it are gone, and so are their signatures
        return head_of_part(self.head, part)

    def _sign(self, round: int, head: bytes, model: bytes, signatures: Signatures) -> None:
        signed = Signed(round, head, model, signatures)
        self.folder.write_bytes(SIGNED, msgspec.msgpack.encode(signed))


def _canonical(value: Mapping[str, Any]) -> bytes:
    """The canonical form of plain values in bytes: as they are once they were read back, with names in order."""
    return msgspec.json.encode(msgspec.json.decode(msgspec.json.encode(value)), order="sorted")
