"""Checking a run under masks afterwards, from its folder alone."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import safetensors

from fairyring.core.errors import RunDamaged, RunError, SecureSumError
from fairyring.core.packing import unpack_words
from fairyring.core.record import RunFolder
from fairyring.core.vector import digest
from fairyring.privacy.ledger import Ledger
from fairyring.secagg import Terms, Transcript, verify
from fairyring.secagg.history import check_attested
from fairyring.secagg.keystream import word_of
from fairyring.simulation.history import (
    AT_THE_END,
    HISTORY,
    SEAL,
    SIGNED,
    Course,
    Part,
    Seal,
    Signed,
    digest_of_header,
    digests_of,
    head_of_part,
    head_of_round,
    head_of_run,
    read_as,
)
from fairyring.simulation.spending import LEDGER
from fairyring.simulation.transcripts import SUM, TRANSCRIPT, TRANSCRIPTS

SHORT = 12  # hexadecimal digits of a noted head: enough to tell heads apart by eye


@dataclass(frozen=True)
class Verified:
    """What was checked of a run, and what was not.

    Attributes:
        rounds: how many rounds have a transcript, all of which hold.
        aborted: rounds whose session ended without a sum.
        fewest: the fewest devices in a sum.
        sums: rounds whose sum itself was there, and is the one the transcript names.
        models: rounds after which the model was kept, and is the one that came of them.
        says: what the terms promise.
        ended: whether the run has come to its end, and every file that was written then is as it was. Of a run that
            has not, no more is known of run.json than that it is as when the run was last taken up, and of a
            checkpoint no more than its model.
        signed: how many devices signed the end, or else the last round: all in the last sum, or 0 if none was left
            to sign. What no device signed, whoever holds the folder could have written.
        unfinished: a round past the last, of which something was written; None if there is none.
        resumed: whether the run was taken up again after its last round.
        ledger: whether the privacy ledger holds, and has the head that the end names.
        unchecked: files of the folder that nothing here covers.
        head: of the whole run as it is, to be noted elsewhere: 64 hexadecimal digits.
        noted: what the given head is of, a round or "the end"; None without one.
    """

    rounds: int
    aborted: tuple[int, ...]
    fewest: int
    sums: tuple[int, ...]
    models: tuple[int, ...]
    says: str
    ended: bool
    signed: int
    unfinished: int | None
    resumed: bool
    ledger: bool
    unchecked: tuple[str, ...]
    head: str
    noted: int | Literal["the end"] | None

    @property
    def whole(self) -> bool:
        """Whether the end vouches for all of it: signed by devices, or known from a head noted elsewhere."""
        return self.ended and (self.signed > 0 or self.noted == "the end")


def verify_run(run: str | os.PathLike[str], *, head: str | None = None) -> Verified:
    """Check a run folder offline: every transcript, and that the folder tells the history its devices have signed.

    The devices of a round are bound to all that came before it: the run, its plan, its population, every line of
    metrics.jsonl, every transcript and every model; those in the last sum signed the last round and the end.
    What this cannot show: that a folder is not an older copy of itself (note `Verified.head` elsewhere, and give it as
    `head`), and that whoever ran the simulation, and so played its devices, did not make it all up.

    Args:
        run: the folder of a run with `secure_sum="protocol"`.
        head: one noted earlier, at least its first 12 digits: all up to it must be as it was then.

    Raises:
        RunError: there is no such run, it has no history, or `head` is none.
        RunDamaged: a file cannot be read, or is missing.
        SecureSumError: something was changed; the error says what.
        LedgerDamaged: a private run's ledger does not hold.
    """
    return _Check(RunFolder.open(run), head).result()


class _Header(msgspec.Struct):
    status: str
    rounds: int
    fingerprints: dict[str, str]
    privacy: dict[str, Any] | None = None


class _Record(msgspec.Struct):
    round: int
    clients: int
    aborted: msgspec.Raw = msgspec.Raw()


class _Promise(msgspec.Struct):
    modulus_bits: int
    threat: str
    adversarial_rate: float
    dropout_rate: float
    minimum_cohort: int


class _Planned(msgspec.Struct):
    secure_sum: _Promise


class _Check:
    """One check of one folder."""

    def __init__(self, folder: RunFolder, noted: str | None) -> None:
        self.path = folder.path
        if noted is not None and not re.fullmatch(f"[0-9a-f]{{{SHORT},64}}", noted.strip().lower()):
            raise RunError(
                "a head noted earlier",
                given=repr(noted),
                expected=f"at least the first {SHORT} of its 64 hexadecimal digits",
                do="Give it as `fairyring verify` printed it then.",
            )
        self.sought = noted.strip().lower() if noted else None
        raw = self._bytes("run.json")
        content = _decoded(self.path / "run.json", raw, dict[str, Any])
        if content.get("secure_sum") != "protocol":
            raise RunError(
                f"run folder {self.path}",
                given="a run whose updates were not summed by the masked protocol",
                expected="one of simulate(..., secure_sum='protocol')",
                do="Run it so; there is nothing to check otherwise.",
            )
        course = Course.of(content)
        if course is None:
            raise RunError(
                f"run folder {self.path}",
                given="a run without a history",
                expected="one that was kept in a folder from its first round on",
                do="Give simulate() the folder, run=...; what was run without one cannot be checked.",
            )
        self.course: Course = course
        self.header = _converted(self.path / "run.json", content, _Header)
        self.running = self.header.status == "running"
        if self.running:  # until the end, nobody has signed its bytes
            _require(
                msgspec.json.format(msgspec.json.encode(content), indent=2) == raw,
                "run.json",
                "another form",
                "the one it was written in",
            )
        self.content = content
        self.plan = _decoded(self.path / "plan.json", self._bytes("plan.json"), _Planned)
        self.lines, self.torn = self._metrics()
        self.head = head_of_run(self.path, content, course) if self._bytes("population.json") else b""
        self.heads: dict[int, bytes] = {}
        self.known: dict[str, int | Literal["the end"]] = {}
        self.after: dict[int, bytes] = {}
        self.sums: list[int] = []
        self.aborted: list[int] = []
        self.counts: list[int] = []
        self.terms: Terms | None = None
        self.last: Transcript | None = None
        self.pending: list[Part | tuple[int, bytes, bytes | None]] = []

    def result(self) -> Verified:
        """Everything, in the order it was written in."""
        signed = self._signed()
        rounds = signed.round if signed else 0
        unfinished = self._unfinished(rounds)
        parts = self._parts(rounds)
        for number in range(1, rounds + 1):
            if number - 1 in parts:
                self.pending.append(parts[number - 1])
            self._round(number)
        signers = self._last_head(signed) if signed else 0
        resumed = rounds in parts and rounds > 0
        if rounds in parts:
            self.pending.append(parts[rounds])
            self._flush(b"")
        models, checkpoints = self._checkpoints()
        ended = not self.running
        covered = {"run.json", "plan.json", "population.json", "metrics.jsonl", SIGNED, *checkpoints}
        covered |= {TRANSCRIPT.format(n) for n in range(1, rounds + 1)} | {SUM.format(n) for n in self.sums}
        if ended:
            seal = self._end(rounds, signers)
            signers, covered = len(seal.signatures), covered | {SEAL, *seal.files}
            self.head = seal.end
            self.known[self.head.hex()] = "the end"
        else:
            self._as_taken_up(signers)
        ledger = ended and self._ledger()
        covered |= {LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm"} if ledger else set()
        return Verified(
            rounds=len(self.counts),
            aborted=tuple(self.aborted),
            fewest=min(self.counts, default=0),
            sums=tuple(self.sums),
            models=tuple(models),
            says=self.terms.says() if self.terms else "",
            ended=ended,
            signed=signers,
            unfinished=unfinished,
            resumed=resumed,
            ledger=ledger,
            unchecked=tuple(sorted(set(self._files()) - covered)),
            head=self.head.hex(),
            noted=self._noted(),
        )

    # -- what there is ------------------------------------------------------------------------------------

    def _metrics(self) -> tuple[list[bytes], bool]:
        """The lines of metrics.jsonl, and whether the last is cut short and so left out."""
        path = self.path / "metrics.jsonl"
        *lines, rest = path.read_bytes().split(b"\n") if path.is_file() else [b""]
        return lines, bool(rest)

    def _signed(self) -> Signed | None:
        """The last head; None before the first round was over."""
        if not (self.path / SIGNED).is_file() and self.running and len(self.lines) <= 1:
            return None
        return read_as(Signed, self.path / SIGNED)

    def _unfinished(self, rounds: int) -> int | None:
        """The round that was being written when the run was killed; anything else past the last is refused."""
        found = {rounds + 1} if self.torn else set()
        found |= set(range(rounds + 1, len(self.lines) + 1))
        for path in (self.path / TRANSCRIPTS).glob("round-*"):
            number = path.stem.removeprefix("round-")
            if number.isdecimal() and int(number) > rounds:
                found.add(int(number))
        _require(
            len(self.lines) >= rounds,
            "metrics.jsonl",
            f"{len(self.lines)} rounds",
            f"{rounds}, after which devices signed; one killed while it was taken up again is to be resumed",
        )
        allowed = {rounds + 1} if self.running else set()
        _require(found <= allowed, "run", f"something of round {max(found, default=0)}", f"{rounds} rounds")
        return max(found, default=None)

    def _parts(self, rounds: int) -> dict[int, Part]:
        """The run's parts, by the round each was taken up after."""
        parts = self.course.parts
        begun = [part.after for part in parts]
        right = begun == sorted(set(begun)) and begun[:1] in ([], [0]) and all(n <= rounds for n in begun)
        _require(
            right and (bool(parts) or not rounds), "run.json", f"parts after rounds {begun}", "the run's"
        )
        if parts:
            planned = parts[-1].rounds
            _require(
                self.header.rounds == planned,
                "run.json",
                f"{self.header.rounds} rounds planned",
                f"{planned}",
            )
        return {part.after: part for part in parts}

    def _files(self) -> Iterator[str]:
        for path in self.path.rglob("*"):
            if path.is_file():
                yield str(path.relative_to(self.path))

    # -- the rounds ---------------------------------------------------------------------------------------

    def _round(self, number: int) -> None:
        line = self.lines[number - 1]
        record = _decoded(self.path / "metrics.jsonl", line, _Record)
        _require(record.round == number, "metrics.jsonl", f"round {record.round}", f"round {number}")
        path, kept = self.path / TRANSCRIPT.format(number), self.path / SUM.format(number)
        if bytes(record.aborted):
            there = [file.name for file in (path, kept) if file.exists()]
            _require(not there, f"round {number}, aborted", ", ".join(there), "neither transcript nor sum")
            self.aborted.append(number)
            self.pending.append((number, line, None))
            return
        raw = self._bytes(TRANSCRIPT.format(number))
        transcript = _decoded(path, raw, Transcript, msgspec.msgpack)
        self._agrees(number, transcript, record.clients)
        self._flush(transcript.model)
        self.after.setdefault(number - 1, transcript.model)
        _require(
            transcript.previous == self.head,
            f"history before round {number}",
            "another than its devices signed",
            "run.json, plan.json, population.json, and metrics and transcripts of all earlier rounds as they were",
        )
        vector = None
        if kept.is_file():
            bits = transcript.terms.modulus_bits
            try:
                vector = unpack_words(kept.read_bytes(), bits, transcript.terms.length, word_of(bits))
            except ValueError as error:
                raise _damaged(kept, error) from error
            self.sums.append(number)
        try:
            verify(transcript, vector)
        except SecureSumError as error:
            error.add_note(f"In round {number} of {self.path}.")
            raise
        self.counts.append(transcript.count)
        self.last = transcript
        self.pending.append((number, line, raw))

    def _agrees(self, number: int, transcript: Transcript, clients: int) -> None:
        """That a transcript is of this round, its record, and this plan's terms."""
        terms, promise = transcript.terms, self.plan.secure_sum
        told = {
            "round": (transcript.round, number),
            "number of clients": (transcript.count, clients),
            "plan": (terms.plan.hex()[:SHORT], self.header.fingerprints.get("plan", "")[:SHORT]),
            "other terms": (terms, self.terms or terms),
            "modulus": (terms.modulus_bits, promise.modulus_bits),
            "threat": (terms.threat, promise.threat),
            "adversarial rate": (terms.adversarial_rate, promise.adversarial_rate),
            "dropout rate": (terms.dropout_rate, promise.dropout_rate),
            "minimum cohort": (terms.fewest, promise.minimum_cohort),
        }
        for what, (given, expected) in told.items():
            _require(
                given == expected,
                f"transcript of round {number}",
                f"{what} {given}",
                f"{what} {expected}, as the run's own record says",
            )
        self.terms = terms

    def _flush(self, model: bytes) -> None:
        """Follow what has happened since the last sum, of which `model` came."""
        for done in self.pending:
            if isinstance(done, Part):
                self.head = head_of_part(self.head, done)
                if done.seal:
                    self.known[done.seal] = done.after
            else:
                number, line, transcript = done
                self.head = head_of_round(self.head, line, transcript, model)
                self.heads[number], self.after[number] = self.head, model
                self.known[self.head.hex()] = number
        self.pending.clear()

    # -- the end ------------------------------------------------------------------------------------------

    def _last_head(self, signed: Signed) -> int:
        """Check the head after the last round; returns how many devices signed it."""
        self._flush(signed.model)
        _require(
            signed.head == self.head,
            f"history up to round {signed.round}",
            "another than was signed",
            "run.json, plan.json, population.json, metrics and transcripts as they were",
        )
        return self._attested(signed.head, signed.signatures)

    def _attested(self, head: bytes, signatures: tuple[tuple[int, bytes], ...]) -> int:
        if signatures:
            _require(self.last is not None, "signed head", "signatures", "none: there was no sum")
            assert self.last is not None
            check_attested(self.last, head, signatures)
        return len(signatures)

    def _end(self, rounds: int, signers: int) -> Seal:
        """Check what was written at the end."""
        planned = self.header.rounds
        status = "finished" if rounds >= planned else "stopped"
        given = f"{self.header.status!r} after {rounds} of {planned} rounds"
        _require(self.header.status == status, "run.json", given, repr(status))
        seal = read_as(Seal, self.path / SEAL)
        _require(seal.head == self.head, "end of the run", "that of another history", "this one's")
        needed = {*AT_THE_END, f"checkpoints/round-{rounds:06d}.safetensors"}
        needed |= {SUM.format(rounds)} if self.course.sums and rounds not in self.aborted else set()
        missing = needed - seal.files.keys()
        _require(not missing, "end of the run", f"no digest of {sorted(missing)}", "one of each")
        for name in seal.files.keys() - {str(f) for f in self._files()}:
            raise _damaged(self.path / name, "no such file")
        for name, found in digests_of(self.path).items():
            _require(seal.files.get(name) == found, name, "other bytes", "those written at the run's end")
        signed = self._attested(seal.end, seal.signatures)
        _require(not signed or signers > 0, "last head", "no signatures", f"{signed}, as of the end")
        return seal

    def _as_taken_up(self, signers: int) -> None:
        """Check what can be of a run that has not ended."""
        if self.course.parts:
            right = digest_of_header(self.content) == self.course.parts[-1].run
            _require(right, "run.json", "other values", "those it had when the run was last taken up")
        last = max(self.heads, default=0)
        if signers and self.course.sums and last not in self.aborted and last not in self.sums:
            raise _damaged(self.path / SUM.format(last), "no such file")

    def _checkpoints(self) -> tuple[list[int], list[str]]:
        """Check the models that were kept; returns after which rounds they were, and the files' names."""
        rounds, names = [], []
        for path in sorted((self.path / "checkpoints").glob("round-*.safetensors")):
            facts, model = _model(path)
            number = next((n for n in self.heads if path.name == f"round-{n:06d}.safetensors"), 0)
            right = number > 0 and facts.get("round") == number
            _require(right, path.name, f"the model after round {facts.get('round')}", "that of a round there was")
            head = self.heads[number].hex()
            _require(facts.get(HISTORY) == head, path.name, "another history", "this run's")
            _require(model == self.after[number], path.name, "another model", f"that after round {number}")
            rounds.append(number)
            names.append(str(path.relative_to(self.path)))
        return rounds, names

    def _ledger(self) -> bool:
        """Check that a private run's ledger holds, and has the head that the run's end names."""
        if self.header.privacy is None:
            return False
        head = _converted(self.path / "run.json", self.header.privacy.get("ledger"), dict[str, Any])
        number, entries = head.get("number"), Ledger.read(self.path / LEDGER).entries
        there = isinstance(number, int) and number < len(entries) and entries[number].hash == head.get("hash")
        _require(there, LEDGER, "another ledger", "one with the head that run.json names")
        return True

    def _noted(self) -> int | Literal["the end"] | None:
        if self.sought is None:
            return None
        for head, what in self.known.items():
            if head.startswith(self.sought):
                return what
        raise SecureSumError(
            f"run folder {self.path}",
            given=f"a history without {self.sought[:SHORT]}",
            expected="one that leads through the head noted earlier",
            do="It was put back to an older copy, or is another run.",
        )

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise _damaged(self.path / name, error) from error


def _model(path: Path) -> tuple[dict[str, Any], bytes]:
    """A checkpoint's facts, and the digest of its model."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = msgspec.json.decode((file.metadata() or {}).get("fairyring", ""), type=dict[str, Any])
            names = [name for name in sorted(file.keys()) if name.startswith("server/")]
            parts = [[n for n in names if n[11:].startswith(part)] for part in (".params", ".shared")]
            return facts, digest(file.get_tensor(name) for part in parts for name in part)
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise _damaged(path, error) from error


def _decoded(path: Path, content: bytes, kind: Any, form: Any = msgspec.json) -> Any:
    try:
        return form.decode(content, type=kind)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error


def _converted(path: Path, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _damaged(path, error) from error


def _require(holds: bool, what: str, given: str, expected: str) -> None:
    if not holds:
        raise SecureSumError(
            what,
            given=given,
            expected=expected,
            do="Do not trust this run: it was changed after it was written, or never was.",
        )


def _damaged(path: Path, problem: object) -> RunDamaged:
    return RunDamaged(
        str(path), given=f"{problem}", expected="a file this run wrote", do="Restore it from a copy."
    )
