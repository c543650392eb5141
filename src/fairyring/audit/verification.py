"""Verifying a run under masks afterwards, from its folder alone."""

import os
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from fairyring.audit.walk import Place, Walk
from fairyring.core.errors import PlanError, RunDamaged, RunError, SecureSumError
from fairyring.learning.document import digest
from fairyring.learning.document_reader import Described, Document, read
from fairyring.privacy.ledger import Ledger
from fairyring.records.folder import RunFolder
from fairyring.records.form import check_form
from fairyring.records.layout import (
    CHECKPOINT,
    CHECKPOINTS,
    LEDGER,
    LEDGER_FILES,
    METRICS,
    PLAN,
    POPULATION,
    RUN,
    SUM,
    TRANSCRIPT,
    TRANSCRIPTS,
)
from fairyring.records.reading import (
    Header,
    content_of,
    converted,
    damaged,
    decoded,
    model_of,
    read_as,
    require,
)
from fairyring.rounds.history import (
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
    head_of_run,
)
from fairyring.secagg.history import check_attested

SHORT = 16  # hexadecimal digits of a noted head: enough to tell heads apart by eye


@dataclass(frozen=True)
class Verified:
    """What was checked of a run, and what was not.

    Attributes:
        rounds: how many rounds have a transcript; all transcripts hold.
        aborted: rounds whose session ended without a sum.
        fewest: the fewest devices in a sum.
        sums: rounds whose sum was kept, and is the one that the transcript names.
        models: rounds after which the model was kept, and is the one that came out of them.
        says: what the terms promise, in words.
        ended: whether the run has come to its end, and every file that was written then is as it was. Of a run that
            has not, no more is known of run.json than that it is as when the run was last resumed, and of a
            checkpoint no more than its model.
        signed: how many devices signed the end, or else the last round: all in the last sum, or 0 if none was left
            to sign. What no device signed, whoever holds the folder could have written.
        unfinished: a round past the last, of which something was written; None if there is none.
        resumed: whether the run was resumed after its last round.
        ledger: whether the privacy ledger holds, and has the head that the end names.
        unchecked: files of the folder that nothing here covers.
        head: of the whole run as it is, to be noted elsewhere: 64 hexadecimal digits.
        noted: what the given head stands for, a round or "the end"; None if none was given.
    """

    rounds: int
    aborted: tuple[int, ...]
    smallest_cohort: int
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
    noted: Place | None

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
        head: one noted earlier, at least its first 16 digits: all up to it must be as it was then. So few guard against
            mix-ups only; against somebody who means to deceive note all 64.

    Raises:
        RunError: there is no such run, it has no history, or `head` is none.
        RunMismatch: its plan is written in a form of another version.
        RunDamaged: a file cannot be read, or is missing.
        SecureSumError: something was changed; the error says what.
        LedgerDamaged: a private run's ledger does not hold.
    """
    return _Check(RunFolder.open(run), head).result()


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
        raw = content_of(self.path / RUN)
        self.content = decoded(self.path / RUN, raw, dict[str, Any])
        if self.content.get("secure_sum") != "protocol":
            raise RunError(
                f"run folder {self.path}",
                given="a run whose updates were not summed by the masked protocol",
                expected="one of simulate(..., secure_sum='protocol')",
                do="Run it so; there is nothing to check otherwise.",
            )
        course = Course.of(self.content)
        if course is None:
            raise RunError(
                f"run folder {self.path}",
                given="a run without a history",
                expected="one that was kept in a folder from its first round on",
                do="Give simulate() the folder, run=...; what was run without one cannot be checked.",
            )
        self.course: Course = course
        check_form(self.content, str(self.path))
        self.header = converted(self.path / RUN, self.content, Header)
        self.running = self.header.status == "running"
        if self.running:  # until the end, nobody has signed its bytes
            form = msgspec.json.format(msgspec.json.encode(self.content), indent=2)
            require(form == raw, RUN, "another form", "the one it was written in")
        plan = self._plan()
        content_of(self.path / POPULATION)
        head = head_of_run(self.path, self.content, course)
        self.lines, self.torn = self._metrics()
        assert plan.secure_sum is not None
        self.walk = Walk(self.path, self.header.fingerprints.get("terms", ""), plan.secure_sum, head)

    def result(self) -> Verified:
        """Check everything, in the order in which it was written."""
        signed = self._signed()
        rounds = signed.round if signed else 0
        unfinished, parts, walk = self._unfinished(rounds), self._parts(rounds), self.walk
        for number in range(1, rounds + 1):
            for part in parts.get(number - 1, ()):
                walk.part(part)
            walk.round(number, self.lines[number - 1])
        signers = self._last_head(signed) if signed else 0
        for part in parts.get(rounds, ()):
            walk.part(part)
        walk.settle(b"")
        models, checkpoints = self._checkpoints()
        covered = {RUN, PLAN, POPULATION, METRICS, SIGNED, *checkpoints}
        covered |= {TRANSCRIPT.format(n) for n in walk.heads} | {SUM.format(n) for n in walk.sums}
        known, head = walk.known, walk.heads.get(rounds, walk.head)
        if self.running:
            self._as_resumed(signers)
        else:
            seal = self._end(rounds, signers)
            signers, covered, head = len(seal.signatures), covered | {SEAL, *seal.files}, seal.end
            known[head.hex()] = "the end"
        ledger = not self.running and self._ledger()
        covered |= set(LEDGER_FILES) if ledger else set()
        return Verified(
            rounds=len(walk.counts),
            aborted=tuple(walk.aborted),
            smallest_cohort=min(walk.counts, default=0),
            sums=tuple(walk.sums),
            models=tuple(models),
            says=walk.terms.says() if walk.terms else "",
            ended=not self.running,
            signed=signers,
            unfinished=unfinished,
            resumed=rounds in parts and rounds > 0,
            ledger=ledger,
            unchecked=tuple(sorted(self._files() - covered)),
            head=head.hex(),
            noted=self._noted(known),
        )

    # -- what is in the folder ------------------------------------------------------------------------------------

    def _plan(self) -> Described:
        """The plan's document, and what follows from it; it has the digest that run.json names."""
        path = self.path / PLAN
        value = decoded(path, content_of(path), dict[str, Any])
        try:
            plan = read(value, Described)
            document = {name: value[name] for name in Document.__struct_fields__}
            named = digest(document, self.header.code)
            # Devices know of no columns: the digest that they agree to leaves out what reads examples.
            terms = digest(document, {"columns": {}, "programs": {"init": self.header.init}})
        except (PlanError, ValueError) as error:
            raise damaged(path, error) from error
        require(plan.secure_sum is not None, PLAN, "no secure sum", "that of the run")
        require(
            named == self.header.fingerprints.get("plan"), PLAN, f"a plan {named[:12]}", "that of run.json"
        )
        agreed = self.header.fingerprints.get("terms", "")
        require(terms == agreed, PLAN, f"a plan {terms[:12]}", f"{agreed[:12]}, which its devices agreed to")
        return plan

    def _metrics(self) -> tuple[list[bytes], bool]:
        """The lines of metrics.jsonl, and whether the last one was cut short, and so is left out."""
        path = self.path / METRICS
        *lines, rest = path.read_bytes().split(b"\n") if path.is_file() else [b""]
        return lines, bool(rest)

    def _signed(self) -> Signed | None:
        """The last head; None before the first round was over."""
        if not (self.path / SIGNED).is_file() and self.running and len(self.lines) <= 1:
            return None
        return read_as(Signed, self.path / SIGNED)

    def _unfinished(self, rounds: int) -> int | None:
        """The round that was being written when the run was killed; anything else past the last is refused."""
        numbers = {rounds + 1} if self.torn else set()
        numbers |= set(range(rounds + 1, len(self.lines) + 1))
        for path in (self.path / TRANSCRIPTS).glob("round-*"):
            number = path.stem.removeprefix("round-")
            if number.isdecimal() and int(number) > rounds:
                numbers.add(int(number))
        require(
            len(self.lines) >= rounds,
            METRICS,
            f"{len(self.lines)} rounds",
            f"{rounds}, after which devices signed; one killed while it was being resumed is to be resumed once more",
        )
        allowed = {rounds + 1} if self.running else set()
        require(
            numbers <= allowed, "run", f"something of round {max(numbers, default=0)}", f"{rounds} rounds"
        )
        return max(numbers, default=None)

    def _parts(self, rounds: int) -> dict[int, list[Part]]:
        """The run's parts, by the round after which each of them began."""
        parts = self.course.parts
        begun = [part.after for part in parts]
        right = begun == sorted(begun) and begun[:1] in ([], [0]) and all(n <= rounds for n in begun)
        require(right and (bool(parts) or not rounds), RUN, f"parts after rounds {begun}", "the run's")
        if parts:
            planned = parts[-1].rounds
            require(
                self.header.rounds == planned,
                RUN,
                f"{self.header.rounds} rounds planned",
                f"{planned}",
            )
        return {after: [part for part in parts if part.after == after] for after in begun}

    def _files(self) -> set[str]:
        """All files in the folder, except for the lock, which must be empty after the run."""
        names = {str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()}
        lock = self.path / "lock"
        return names - ({"lock"} if self.running or not lock.is_file() or not lock.stat().st_size else set())

    # -- the end ------------------------------------------------------------------------------------------

    def _last_head(self, signed: Signed) -> int:
        """Check the head after the last round; returns how many devices signed it."""
        self.walk.settle(signed.model)
        require(
            signed.head == self.walk.head,
            f"history up to round {signed.round}",
            "another than was signed",
            "run.json, plan.json, population.json, metrics and transcripts as they were",
        )
        return self._attested(signed.head, signed.signatures)

    def _attested(self, head: bytes, signatures: tuple[tuple[int, bytes], ...]) -> int:
        if signatures:
            require(bool(self.walk.counts), "signed head", "signatures", "none: there was no sum")
            assert self.walk.last is not None
            check_attested(self.walk.last, head, signatures)
        return len(signatures)

    def _end(self, rounds: int, signers: int) -> Seal:
        """Check what was written at the end."""
        planned = self.header.rounds
        status = "finished" if rounds >= planned else "stopped"
        given = f"{self.header.status!r} after {rounds} of {planned} rounds"
        require(self.header.status == status, RUN, given, repr(status))
        if not (self.path / SEAL).is_file():
            raise RunDamaged(
                str(self.path / SEAL),
                given="no such file",
                expected="the signed end of a run that has ended",
                do="If the run was killed as it ended, resume it; do not trust it otherwise.",
            )
        seal = read_as(Seal, self.path / SEAL)
        require(seal.head == self.walk.head, "end of the run", "that of another history", "this one's")
        needed = {*AT_THE_END, f"{CHECKPOINTS}/{CHECKPOINT.format(rounds)}"}
        needed |= {SUM.format(rounds)} if self.course.sums and rounds not in self.walk.aborted else set()
        missing = needed - seal.files.keys()
        require(not missing, "end of the run", f"no digest of {sorted(missing)}", "one of each")
        for name in seal.files.keys() - self._files():
            raise damaged(self.path / name, "no such file")
        for name, current in digests_of(self.path).items():
            require(seal.files.get(name) == current, name, "other bytes", "those written at the run's end")
        signed = self._attested(seal.end, seal.signatures)
        require(not signed or signers > 0, "last head", "no signatures", f"{signed}, as of the end")
        return seal

    def _as_resumed(self, signers: int) -> None:
        """Check what can be of a run that has not ended."""
        if self.course.parts:
            right = digest_of_header(self.content) == self.course.parts[-1].run
            require(right, RUN, "other values", "those it had when the run was last resumed")
        last = max(self.walk.heads, default=0)
        if signers and self.course.sums and last not in self.walk.aborted and last not in self.walk.sums:
            raise damaged(self.path / SUM.format(last), "no such file")

    def _checkpoints(self) -> tuple[list[int], list[str]]:
        """Check the models that were kept; returns after which rounds they were, and the files' names."""
        rounds, names = [], []
        for path in sorted((self.path / CHECKPOINTS).glob("round-*.safetensors")):
            facts, model = model_of(path)
            number = next((n for n in self.walk.heads if path.name == f"round-{n:06d}.safetensors"), 0)
            right = number > 0 and facts.get("round") == number
            require(
                right, path.name, f"the model after round {facts.get('round')}", "that of a round there was"
            )
            head = self.walk.heads[number].hex()
            require(facts.get(HISTORY) == head, path.name, "another history", "this run's")
            require(
                model == self.walk.after[number], path.name, "another model", f"that after round {number}"
            )
            rounds.append(number)
            names.append(str(path.relative_to(self.path)))
        return rounds, names

    def _ledger(self) -> bool:
        """Check that a private run's ledger holds, and has the head that the run's end names."""
        if self.header.privacy is None:
            return False
        head = converted(self.path / RUN, self.header.privacy.get("ledger"), dict[str, Any])
        number, entries = head.get("number"), Ledger.read(self.path / LEDGER).entries
        there = isinstance(number, int) and number < len(entries) and entries[number].hash == head.get("hash")
        require(there, LEDGER, "another ledger", "one with the head that run.json names")
        return True

    def _noted(self, known: dict[str, Place]) -> Place | None:
        if self.sought is None:
            return None
        for head, what in known.items():
            if head.startswith(self.sought):
                return what
        raise SecureSumError(
            f"run folder {self.path}",
            given=f"a history without {self.sought[:SHORT]}",
            expected="one that leads through the head noted earlier",
            do="It was put back to an older copy, or is another run; or the head was noted of a run that was killed, and "
            "its rounds after the last checkpoint were run again.",
        )
