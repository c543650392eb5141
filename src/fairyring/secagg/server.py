"""The server's side of a session: it freezes who takes part, carries messages, and learns one sum.

The server's state is a fold of its log: a message is in the log before it is acknowledged, and a set is in the log
before any device is told of it. So a server that is killed at any point ends with the same sum or aborts cleanly, and
never tells devices anything different. Masked vectors stay in the log until they are summed; memory does not grow with
their number.
"""

from collections.abc import Iterator
from typing import Any

from fairyring.core.errors import PlanError, RunDamaged, RunMismatch, SessionAborted
from fairyring.secagg._acceptance import check, verify_sender
from fairyring.secagg._announcements import Outgoing, announcements, answer
from fairyring.secagg._phases import KINDS, TRANSITIONS, Phase, awaited
from fairyring.secagg._state import Result, State
from fairyring.secagg._suite import verified
from fairyring.secagg.identity import Anyone, Policy
from fairyring.secagg.log import Log
from fairyring.secagg.messages import Advertise, FromDevice, decode, decode_kept, maximum_bytes
from fairyring.secagg.terms import Session

__all__ = ["TRANSITIONS", "Outgoing", "Phase", "Result", "Server"]


class Server:
    """The server of one session.

    Args:
        session: the session.
        log: the session's log; a server resumes from what is in it.
        policy: who may take part.

    Raises:
        RunMismatch: the log is of another session.
        RunDamaged: the log was not written by this server.
    """

    def __init__(self, session: Session, log: Log, *, policy: Policy | None = None) -> None:
        self.session, self._log, self._policy = session, log, policy or Anyone()
        self._state = State(session, log)
        # By kind of message: sender -> what it sent, and the senders that sent two different messages.
        self._seen: dict[str, dict[bytes, bytes]] = {kind: {} for kind in KINDS.values()}
        self._contradicting: dict[str, set[bytes]] = {kind: set() for kind in KINDS.values()}
        if len(log) == 0:
            log.append("begin", session.context)
        for number, (kind, data) in enumerate(log):
            self._replay(number, kind, data)

    @property
    def phase(self) -> Phase:
        """What the server waits for."""
        return self._state.phase

    @property
    def result(self) -> Result | None:
        """The result once the session is done, otherwise None."""
        return self._state.result

    def receive(self, data: bytes) -> list[Outgoing]:
        """Take a message from a device; when this returns, the message is accepted.

        Repeating the same bytes gets the same answer: what the server has announced to that device since, or nothing
        yet. If a device sends a second message of the same kind with different content, both are refused and the
        device is excluded from the phase.

        Raises:
            MessageRefused: the message is malformed, forged, out of turn, or contradicts an earlier one. The session
                goes on.
            SessionAborted: the session has ended without a sum.
        """
        self._check_alive()
        state, terms = self._state, self.session.terms
        devices = len(state.roster) or terms.maximum_cohort
        degree = state.graph.degree or terms.maximum_cohort - 1
        message = decode(data, FromDevice, maximum_bytes(terms.vector_bytes, devices, degree), self.phase)
        kind = KINDS[type(message)]
        sender, payload = verify_sender(state, message)
        seen = self._seen[kind].get(sender)
        mark = payload + message.signature  # stands for the bytes, and is already computed
        contradicting = sender in self._contradicting[kind]
        if seen == mark and not contradicting:
            return answer(state, kind, sender)
        if (self.phase, kind) not in TRANSITIONS:
            raise state.refusal(
                f"{message!r}", awaited(self.phase), "Do not send it now: it came too late, or too early."
            )
        if contradicting:
            raise state.refusal(
                f"{message!r} of a device that contradicted itself",
                "one message of a kind",
                "Wait for another session: the device is excluded from this phase.",
            )
        if seen is None:
            check(state, self._policy, kind, message, sender)
        self._take(kind, message, sender, mark, self._log.append(kind, data))
        if seen is not None:
            raise state.refusal(
                f"another {message!r} than before",
                "one in a session",
                "Wait for another session: both are refused, since nobody can tell which one counts.",
            )
        return []

    def close(self, beacon: bytes = b"") -> Iterator[Outgoing]:
        """End the phase: only what has arrived by now counts. Returns what is announced.

        Args:
            beacon: up to 64 bytes of public randomness that nobody could know when the adverts arrived; only in the
                phase `ADVERTISING`.

        Raises:
            SessionAborted: too few devices are left, or their messages do not give a sum.
        """
        self._check_alive()
        if (self.phase, "close") not in TRANSITIONS:
            raise self._state.refusal("the end of a phase", awaited(self.phase), "The session is over.")
        if len(beacon) > 64 or (beacon and self.phase != Phase.ADVERTISING):
            raise self._state.refusal("a beacon", "at most 64 bytes, for the roster", "Leave it out.")
        self._close(beacon, keep=True)
        return self.announcements()

    def announcements(self) -> Iterator[Outgoing]:
        """Everything that was announced when the current phase began, for a server that was restarted."""
        return announcements(self._state)

    @property
    def barred(self) -> tuple[bytes, ...]:
        """Identities of devices whose sealed shares did not open and that did not disclose them when asked."""
        state = self._state
        return tuple(state.roster[index].identity for index in sorted(state.disputes.barred))

    @property
    def liars(self) -> tuple[bytes, ...]:
        """Identities of devices to which wrong shares are attributed. The sum was recovered without those shares.

        The list need not be complete. A wrong share that its sealer disclosed and signed is attributed to the sealer.
        Any other is attributed to the device that returned it, and **that device may be innocent**: one device sealed
        the share for the other, and nobody else has seen it. A device that seals wrong shares can so have any number of
        honest neighbours named. Do not exclude a device for being named once. Over many sessions, a device that lies is
        named, or is next to those that are, again and again.
        """
        state = self._state
        return tuple(state.roster[index].identity for index in sorted(state.liars))

    @property
    def waiting_for(self) -> int:
        """How many more messages can arrive in this phase.

        In the phase `OPENING` none need arrive: a device that can open its whole mailbox sends nothing.
        """
        if self.phase == Phase.ADVERTISING:
            return self.session.terms.maximum_cohort - len(self.heard)
        return len(self.expected) - len(self.heard)

    @property
    def expected(self) -> tuple[bytes, ...]:
        """Identities of the devices that may send a message in this phase; none while devices advertise, which anybody may."""
        state = self._state
        indices = {
            Phase.SHARING: range(len(state.roster)),
            Phase.OPENING: state.holders,
            Phase.DISCLOSING: state.disputes.accused,
            Phase.MASKING: state.holders,
            Phase.CONFIRMING: state.survivors,
            Phase.UNMASKING: state.askable,
        }.get(self.phase, ())
        return tuple(state.roster[index].identity for index in sorted(indices))

    @property
    def heard(self) -> frozenset[bytes]:
        """Identities of the devices that have sent this phase's message."""
        kind = next((kind for phase, kind in TRANSITIONS if phase == self.phase and kind != "close"), None)
        return frozenset(self._seen[kind]) if kind is not None else frozenset()

    # -- the fold ----------------------------------------------------------------------------------------------

    def _replay(self, number: int, kind: str, data: bytes) -> None:
        """Apply a record of the log."""
        if (kind == "begin") != (number == 0):
            raise _damaged(f"{kind!r} as its record {number}", "'begin' first, and once")
        if kind == "begin":
            if data != self.session.context:
                raise RunMismatch(
                    "a server's log",
                    given="one of another session",
                    expected="one of this plan, round and model",
                    do="Start a new log for a new session.",
                )
        elif kind == "aborted":
            self._state.phase = Phase.ABORTED
        elif (self.phase, kind) not in TRANSITIONS:
            raise _damaged(f"{kind!r} while {self.phase}", "what may come in that phase")
        elif kind == "close":
            size = data[0] if data else 0
            try:
                self._close(data[1 : 1 + size], keep=False, frozen=data[1 + size :])
            except SessionAborted as error:
                raise _damaged(
                    "a set that does not follow from its records", "the set that its records give"
                ) from error
        else:
            message = decode_kept(data, FromDevice)
            advert, roster = isinstance(message, Advertise), self._state.roster
            if KINDS[type(message)] != kind or not (advert or message.sender < len(roster)):
                raise _damaged(f"{message!r} as {kind!r}", "a member's message under its own name")
            sender = message.identity if advert else roster[message.sender].identity
            payload = self._state.payload(message)
            # Data on a disk may change: a wrong bit of a vector would be a wrong number in the sum.
            if not verified(sender, message.signature, payload):
                raise _damaged(f"{message!r} that its sender did not sign", "what was accepted")
            self._take(kind, message, sender, payload + message.signature, number)

    def _take(self, kind: str, message: Any, sender: bytes, mark: bytes, number: int) -> None:
        """Apply a message that is in the log."""
        if self._seen[kind].setdefault(sender, mark) != mark:
            self._contradicting[kind].add(sender)
        handler = getattr(self._state, TRANSITIONS[self.phase, kind].handler)
        handler(message, number, sender not in self._contradicting[kind])

    def _close(self, beacon: bytes, *, keep: bool, frozen: bytes = b"") -> None:
        state, transition = self._state, TRANSITIONS[self.phase, "close"]
        try:
            if transition.target == Phase.SHARING:
                state.beacon = beacon
            settled = getattr(state, transition.handler)()
        except (SessionAborted, PlanError) as error:
            if keep:
                self._log.append("aborted", str(error).encode())
            phase, state.phase = state.phase, Phase.ABORTED
            if isinstance(error, SessionAborted):
                raise
            raise SessionAborted(phase, given=error.given, expected=error.expected, do=error.do) from error
        if keep:
            self._log.append("close", bytes([len(beacon)]) + beacon + settled)
        elif settled != frozen:
            raise _damaged(f"another set at the end of {self.phase}", "the set that its records give")
        # Only complaints lead to a detour.
        disputed = transition.detour and state.disputes.accused
        state.phase = Phase(transition.detour if disputed else transition.target)

    def _check_alive(self) -> None:
        if self.phase == Phase.ABORTED:
            raise SessionAborted(
                self.phase,
                given="a session that has ended without a sum",
                expected="one that goes on",
                do="Start a new session.",
            )

    def __repr__(self) -> str:
        return f"Server({self.phase}, {len(self._state.roster) or len(self._state.adverts)} devices)"


def _damaged(given: str, expected: str) -> RunDamaged:
    return RunDamaged(
        "a server's log", given=given, expected=expected, do="Start a new session: this log was changed."
    )
