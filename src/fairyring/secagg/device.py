"""The device's side of a session.

A device's state is a fold of its log, and all its randomness derives from the root secret at the beginning of the log. So
a device that is killed at any point resumes with the same bytes. Nothing is sent before it is in the log.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np

from fairyring.core.errors import MessageRefused, PlanError, RunDamaged, RunMismatch, SessionAborted
from fairyring.secagg._steps import Broken, Memory, Steps
from fairyring.secagg._suite import digest
from fairyring.secagg._transition import Transition
from fairyring.secagg.identity import Anyone, Identity, Policy
from fairyring.secagg.keystream import word_of
from fairyring.secagg.log import Log
from fairyring.secagg.messages import FromServer, MaskedInput, decode, decode_kept, maximum_bytes
from fairyring.secagg.terms import Session


class Phase(StrEnum):
    """Where a device is in a session.

    `READY` means that the device has no open complaint. It does not mean that it may send its input yet: others may still
    complain about what it sealed. See `Device.contribute`.
    """

    NEW = "new"
    ADVERTISED = "advertised"
    SHARED = "shared"
    COMPLAINING = "complaining"
    READY = "ready"
    MASKED = "masked"
    SIGNED = "signed"
    DONE = "done"
    ABORTED = "aborted"


# The only place that says which event may follow which. A failed check leads to ABORTED.
TRANSITIONS: Mapping[tuple[Phase, str], Transition] = MappingProxyType(
    {
        (Phase.NEW, "start"): Transition("advertise", Phase.ADVERTISED, "advertise"),
        (Phase.ADVERTISED, "roster"): Transition("share", Phase.SHARED, "shares"),
        (Phase.SHARED, "mailbox"): Transition("open", Phase.READY, "complaint", detour=Phase.COMPLAINING),
        (Phase.COMPLAINING, "settlement"): Transition("settle", Phase.READY),
        (Phase.COMPLAINING, "accusation"): Transition("disclose", Phase.COMPLAINING, "disclosure"),
        (Phase.READY, "vector"): Transition("mask", Phase.MASKED, "masked_input"),
        (Phase.READY, "accusation"): Transition("disclose", Phase.READY, "disclosure"),
        (Phase.READY, "settlement"): Transition("settle", Phase.READY),
        (Phase.MASKED, "survivors"): Transition("sign", Phase.SIGNED, "consistency"),
        (Phase.SIGNED, "signatures"): Transition("unmask", Phase.DONE, "unmask"),
    }
)


class Device:
    """One device in one session.

    Args:
        session: the session. A device derives it from its signed plan and the model it trained from, and does not take it
            from the server.
        identity: the device's long-term key.
        log: the log of this session on this device; a device resumes from what is in it.
        policy: which devices it accepts as neighbours.
        floor: it takes part only with at least so many devices, if that is more than the terms require.
        entropy: `entropy(32)` returns its root secret; for tests.

    Raises:
        RunMismatch: the log is of another session.
        RunDamaged: the log was not written by this device.
    """

    def __init__(
        self,
        session: Session,
        identity: Identity,
        log: Log,
        *,
        policy: Policy | None = None,
        floor: int = 0,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.session, self.identity, self._log, self._entropy = session, identity, log, entropy
        self._steps = Steps(session, identity, policy or Anyone(), max(session.terms.minimum_cohort, floor))
        self._phase, self._memory = Phase.NEW, Memory()
        self._answers: dict[str, tuple[bytes, bytes | None]] = {}  # event -> its digest, the answer
        self._input: int | None = (
            None  # number of the log record with the masked input, which is not kept in memory
        )
        for number, (kind, data) in enumerate(log):
            self._replay(number, kind, data)

    @property
    def phase(self) -> Phase:
        """Where the device is."""
        return self._phase

    def start(self) -> bytes:
        """The first message; the same if called again."""
        if "start" not in self._answers:
            return self._accept("start", self.session.context + self._entropy(32), None) or b""
        return self._answers["start"][1] or b""

    def receive(self, data: bytes) -> bytes | None:
        """Take a message from the server; returns the answer, or None. The same bytes get the same answer.

        Raises:
            MessageRefused: the message is out of turn, malformed, or contradicts an earlier one. Nothing has changed.
            SessionAborted: a check failed and the device has left the session, or it had left before.
        """
        self._check_alive()
        terms = self.session.terms
        roll = self._memory.roll
        devices = roll.devices if roll else terms.maximum_cohort
        degree = roll.graph.degree + len(roll.committee) if roll else terms.maximum_adverts
        message = decode(data, FromServer, maximum_bytes(0, devices, degree, named=terms.sparse), self.phase)
        kind = type(message).__name__.lower()
        seen = self._answers.get(kind)
        if seen is not None:
            if seen[0] != digest("seen", data):
                raise MessageRefused(
                    self.phase,
                    given=f"another {message!r} than before",
                    expected="one in a session",
                    do="Send the first one again, or nothing.",
                )
            return seen[1]
        return self._accept(kind, data, message)

    def contribute(self, vector: np.ndarray) -> bytes:
        """The device's vector under its masks.

        **Call this when the server asks for inputs, not as soon as the device is `READY`**: the server must be in the phase
        `MASKING`, after `OPENING` and `DISCLOSING`. No message of the protocol says so; whoever carries the messages has to
        tell the device. A device that contributes earlier can no longer disclose what it sealed, so any neighbour can get
        it barred by a complaint. Nor does it learn that a neighbour was barred, and then its input is refused, because
        the mask it shares with that neighbour would spoil the sum.

        If called again, it returns the same bytes, whatever the vector: two vectors under the same masks would reveal
        their difference.

        Args:
            vector: unsigned, `[terms.length]`, each below `2**terms.modulus_bits`.

        Raises:
            MessageRefused: the device is not ready, or the vector does not have this form.
            SessionAborted: the device has left the session.
        """
        self._check_alive()
        if self._input is not None:
            return self._log.read(self._input).data
        terms = self.session.terms
        word = word_of(terms.modulus_bits)
        given = np.asarray(vector)
        fits = given.shape == (terms.length,) and given.dtype.kind == "u"
        if not fits or (given.size and int(given.max()) >> terms.modulus_bits):
            raise MessageRefused(
                self.phase,
                given=f"a vector {given.dtype} {list(given.shape)}",
                expected=f"unsigned numbers below 2^{terms.modulus_bits}, [{terms.length}]",
                do="Contribute the vector that the plan's stages encode.",
            )
        return self._accept("vector", b"", given.astype(word)) or b""

    # -- the fold -------------------------------------------------------------------------------------------

    def _accept(self, kind: str, data: bytes, event: Any) -> bytes | None:
        """Check an event, log it, then apply it."""
        transition = TRANSITIONS.get((self.phase, kind))
        if transition is None:
            raise MessageRefused(
                self.phase,
                given=f"{kind}",
                expected=self._awaited(),
                do="Send messages in the order of the protocol.",
            )
        try:
            memory, answer = getattr(self._steps, transition.handler)(
                self._memory, data if event is None else event
            )
        except (Broken, PlanError) as error:
            left = SessionAborted(
                self.phase,
                given=error.given,
                expected=error.expected,
                do="The device has left: the server or a neighbour broke the protocol, or too many devices vanished.",
            )
            self._log.append("aborted", str(left).encode())
            self._leave()
            raise left from None
        # A masked input is kept, and not what it was made of.
        number = self._log.append(kind, answer if kind == "vector" else data)
        self._take(number, kind, data, transition, memory, answer)
        return answer

    def _replay(self, number: int, kind: str, data: bytes) -> None:
        """Take in an event of the log."""
        if kind == "aborted":
            self._leave()
            return
        transition = TRANSITIONS.get((self.phase, kind))
        if transition is None or (kind == "start" and len(data) != 64):
            raise _damaged(f"{kind!r} where a device is {self.phase}")
        if kind == "vector":
            decode_kept(data, MaskedInput)
            self._take(number, kind, b"", transition, self._memory, None)
        else:
            event = data
            if kind == "start":
                if data[:32] != self.session.context:
                    raise RunMismatch(
                        "a device's log",
                        given="one of another session",
                        expected="one of this plan, round and model",
                        do="Start a new log for a new session.",
                    )
            else:
                event = decode_kept(data, FromServer)
                if type(event).__name__.lower() != kind:
                    raise _damaged(f"{event!r} under the name {kind!r}")
            try:
                memory, answer = getattr(self._steps, transition.handler)(self._memory, event)
            except (Broken, PlanError) as error:
                raise _damaged(f"a {kind} it would not have accepted") from error
            self._take(number, kind, data, transition, memory, answer)

    def _leave(self) -> None:
        """Leave the session and drop its secrets."""
        self._phase, self._memory = Phase.ABORTED, replace(self._memory, keys=None, held={})
        self._steps.forget()

    def _take(
        self,
        number: int,
        kind: str,
        data: bytes,
        transition: Transition,
        memory: Memory,
        answer: bytes | None,
    ) -> None:
        """Apply an event that is in the log."""
        # Only complaints lead to a detour.
        complaining = transition.detour and memory.complaints
        self._phase, self._memory = Phase(transition.detour if complaining else transition.target), memory
        if kind == "vector":
            self._input = number
        else:
            self._answers[kind] = (digest("seen", data), answer)

    def _check_alive(self) -> None:
        if self.phase == Phase.ABORTED:
            raise SessionAborted(
                self.phase,
                given="a message to a device that has left",
                expected="a session that goes on",
                do="Start a new session.",
            )

    def _awaited(self) -> str:
        kinds = [kind for phase, kind in TRANSITIONS if phase == self.phase]
        return kinds[0] if kinds else "nothing more"

    def __repr__(self) -> str:
        return f"Device({self.identity!r}, {self.phase})"


def _damaged(given: str) -> RunDamaged:
    return RunDamaged(
        "a device's log",
        given=given,
        expected="what follows from its own records and its policy",
        do="Start a new session: this log was changed.",
    )
