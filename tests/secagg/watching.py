"""Devices under watch: everything each ever answered, and what may never be among it."""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from fairyring.core.errors import MessageRefused, SecureSumError, SessionAborted
from fairyring.secagg import Device, MemoryLog, Record, Session
from fairyring.secagg.messages import Disclosure, Unmask, decode_kept
from tests.secagg.driving import identity, root_secret

SEED, MASKING = 0, 1


class Broken(AssertionError):
    """An invariant does not hold."""


class Watched:
    """A device, its log, and all it has ever answered, over all its processes.

    After every step: it has answered at most one message of each kind, and of no neighbour given shares of both kinds.
    """

    def __init__(self, number: int, session: Session, seed: int) -> None:
        self.number, self.session, self.seed = number, session, seed
        self.identity = identity(number)
        self.log = MemoryLog()
        self.answers: dict[str, set[bytes]] = {}
        self.signed: set[bytes] = set()  # sets of survivors
        self.gave: dict[int, set[int]] = {}  # neighbour's index -> kinds of shares given of it
        self.disclosed_to: set[bytes] = set()  # identities of neighbours whose shares it gave in clear
        self.errors: list[SecureSumError] = []
        self.unmasked: tuple[bytes, bytes] | None = None  # root, survivors
        self.device = self._made()

    def _made(self) -> Device:
        return Device(
            self.session, self.identity, self.log, entropy=lambda size: root_secret(self.number, self.seed)
        )

    def restart(self) -> None:
        """End the process and begin another from what was logged."""
        phase = self.device.phase
        self.log = MemoryLog([Record(kind, data) for kind, data in self.log])
        self.device = self._made()
        if self.device.phase != phase:
            raise Broken(f"device {self.number} was {phase} and is {self.device.phase} after a restart")

    def start(self) -> bytes:
        answer = self.device.start()
        self._answered("advertise", answer)
        return answer

    def receive(self, data: bytes, seen: Counter[str]) -> None:
        """A message from whoever; what is answered is checked."""
        self._step(lambda: self.device.receive(data), seen)

    def contribute(self, vector: np.ndarray, seen: Counter[str]) -> None:
        self._step(lambda: self.device.contribute(vector), seen)

    def _step(self, act: Callable[[], bytes | None], seen: Counter[str]) -> None:
        held = self.device._memory.held
        try:
            answer = act()
        except (MessageRefused, SessionAborted) as error:
            seen[type(error).__name__] += 1
            self.errors.append(error)
            return
        if answer is None:
            return
        kind = _tag(answer)
        seen[kind] += 1
        self._answered(kind, answer)
        memory = self.device._memory
        if kind == "consistency":
            self.signed.add(memory.survivors)
            if len(self.signed) > 1:
                raise Broken(f"device {self.number} signed two sets of survivors")
        if kind == "disclosure":
            assert memory.roll is not None
            given = decode_kept(answer, Disclosure).disclosed
            self.disclosed_to |= {
                advert.identity for advert, entry in zip(memory.roll.adverts, given, strict=True) if entry
            }
        if kind == "unmask":
            self._gave(decode_kept(answer, Unmask), held)

    def _answered(self, kind: str, answer: bytes) -> None:
        known = self.answers.setdefault(kind, set())
        known.add(answer)
        if len(known) > 1:
            raise Broken(f"device {self.number} answered two different {kind}")

    def _gave(self, answer: Unmask, held: object) -> None:
        roll = self.device._memory.roll
        assert roll is not None
        self.unmasked = roll.root, self.device._memory.survivors
        assert isinstance(held, dict) or hasattr(held, "items")
        for place, pair in held.items():  # type: ignore[union-attr]
            for kind in (SEED, MASKING):
                # A share of one kind is looked for anywhere in the answer, not only where it belongs.
                if any(share and share == pair[kind] for share in answer.shares):
                    self.gave.setdefault(roll.indices[place], set()).add(kind)
        for index, kinds in self.gave.items():
            if len(kinds) > 1:
                raise Broken(f"device {self.number} gave both shares of {index}")


def check_together(honest: Iterable[Watched], corrupt: Callable[[bytes], int | None]) -> bool:
    """What all honest devices together may not have given away.

    Args:
        honest: all of them.
        corrupt: root -> how many devices of that roster are the adversary's; None where they are more than the terms
            allow, so that nothing is promised.

    Returns:
        Whether anything could be checked.

    Raises:
        Broken: with the adversary's own shares, both secrets of an honest device can be reconstructed; or two sets of
            survivors are being unmasked.
    """
    honest = list(honest)
    checked = False
    for root in {one.unmasked[0] for one in honest if one.unmasked}:
        allowed = corrupt(root)
        if allowed is None:
            continue
        checked = True
        here = [one for one in honest if one.device._memory.roll and one.device._memory.roll.root == root]
        answering = [one for one in here if one.unmasked]
        if len({one.unmasked for one in answering}) > 1:
            raise Broken("two sets of survivors are unmasked")
        for owner in here:
            roll = owner.device._memory.roll
            assert roll is not None
            known = [
                allowed + sum(kind in one.gave.get(roll.index, ()) for one in answering)
                for kind in (SEED, MASKING)
            ]
            if min(known) >= roll.graph.threshold:
                raise Broken(f"both secrets of device {owner.number} can be reconstructed")
    return checked


def _tag(message: bytes) -> str:
    """The name a message begins with."""
    return message[2 : 2 + (message[1] & 31)].decode()
