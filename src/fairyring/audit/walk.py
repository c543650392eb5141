"""Following a run's history through its folder: what the devices of each round signed, and what the round's result was."""

from pathlib import Path
from typing import Literal

import msgspec

from fairyring.core.errors import SecureSumError
from fairyring.core.packing import unpack_words
from fairyring.core.reading import NotJson
from fairyring.learning.document_reader import SecureSum
from fairyring.records.layout import METRICS, SUM, TRANSCRIPT
from fairyring.records.reading import content_of, damaged, decoded, require
from fairyring.records.round_record import read_record
from fairyring.rounds.history import Part, head_of_end, head_of_part, head_of_round
from fairyring.secagg import Terms, Transcript, verify
from fairyring.secagg.keystream import word_of

Place = int | Literal["the end"]


class Walk:
    """Goes through parts and rounds in order, and refuses the first one that does not fit.

    A round's head covers the model after it, which only the next transcript names. So what has happened since the last sum waits
    for the next one.

    Args:
        path: of the run folder.
        plan: the digest by which the run's terms name the plan, hexadecimal.
        agreed: what plan.json says of the secure sum.
        head: before the first part.

    Attributes:
        head: after everything that is settled.
        heads: the head after each round that is settled.
        after: the digest of the model after each of those rounds.
        known: the place that each head stands for, by its hexadecimal digits.
        sums: rounds whose sum was kept.
        aborted: rounds without a sum.
        counts: how many devices are in each sum.
        terms: of the last sum.
        last: the transcript of the last sum.
    """

    def __init__(self, path: Path, plan: str, agreed: SecureSum, head: bytes) -> None:
        self._path, self._plan, self._agreed = path, plan, agreed
        self._pending: list[Part | tuple[int, bytes, bytes | None]] = []
        self.head = head
        self.heads: dict[int, bytes] = {}
        self.after: dict[int, bytes] = {}
        self.known: dict[str, Place] = {}
        self.sums: list[int] = []
        self.aborted: list[int] = []
        self.counts: list[int] = []
        self.terms: Terms | None = None
        self.last: Transcript | None = None

    def part(self, part: Part) -> None:
        """Note that a process began or resumed the run."""
        self._pending.append(part)

    def round(self, number: int, line: bytes) -> None:
        """Check a round, given its line of metrics.jsonl."""
        try:
            record = read_record(line)
        except NotJson as error:
            raise damaged(self._path / METRICS, error) from error
        require(record.round == number, METRICS, f"round {record.round}", f"round {number}")
        path, kept = self._path / TRANSCRIPT.format(number), self._path / SUM.format(number)
        if record.aborted is not None:
            there = [file.name for file in (path, kept) if file.exists()]
            require(not there, f"round {number}, aborted", ", ".join(there), "neither transcript nor sum")
            self.aborted.append(number)
            self._pending.append((number, line, None))
            return
        raw = content_of(path)
        transcript = decoded(path, raw, Transcript, msgspec.msgpack)
        self._agrees(number, transcript, record.clients)
        self.settle(transcript.model)
        self.after.setdefault(number - 1, transcript.model)
        require(
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
                raise damaged(kept, error) from error
            self.sums.append(number)
        try:
            verify(transcript, vector)
        except SecureSumError as error:
            error.add_note(f"In round {number} of {self._path}.")
            raise
        self.counts.append(transcript.count)
        self.last = transcript
        self._pending.append((number, line, raw))

    def _agrees(self, number: int, transcript: Transcript, clients: int) -> None:
        """Check that a transcript is of this round, and agrees with its record and the plan's terms."""
        terms, agreed = transcript.terms, self._agreed
        pairs = {
            "round": (transcript.round, number),
            "number of clients": (transcript.count, clients),
            "plan": (terms.plan.hex(), self._plan),
            "other terms": (terms, self.terms or terms),
            "modulus": (terms.modulus_bits, agreed.modulus_bits),
            "threat": (terms.threat, agreed.threat),
            "adversarial rate": (terms.adversarial_rate, agreed.adversarial_rate),
            "dropout rate": (terms.dropout_rate, agreed.dropout_rate),
            "minimum cohort": (terms.minimum_cohort, agreed.minimum_cohort),
        }
        for what, (given, expected) in pairs.items():
            require(
                given == expected,
                f"transcript of round {number}",
                f"{what} {given}",
                f"{what} {expected}, as the run's own record says",
            )
        self.terms = terms

    def settle(self, model: bytes) -> None:
        """Follow what has happened since the last sum, after which the model had the digest `model`."""
        for done in self._pending:
            if isinstance(done, Part):
                if done.ended:
                    self.known[head_of_end(self.head, bytes.fromhex(done.ended)).hex()] = done.after
                self.head = head_of_part(self.head, done)
            else:
                number, line, transcript = done
                self.head = head_of_round(self.head, line, transcript, model)
                self.heads[number], self.after[number] = self.head, model
                self.known[self.head.hex()] = number
        self._pending.clear()
