"""Who is invited to a round, of the devices that are there: any of them, but for those in whose company sums were spoiled."""

import math
import random
from collections import Counter
from collections.abc import Collection, Sequence

from fairyring.service.storage import Storage

RECENT = 30.0  # seconds: a device that checked in since is there
_CHANCE = random.SystemRandom()


class Chooser:
    """Chooses devices for the rounds of a run.

    A masked sum does not show who spoiled it. But a device that is in a sum that came out well did not spoil that one, so suspicion falls on
    those that were in spoiled sums since they were last in a good one. They are invited after all others. Where suspects must be
    invited, half of them are, so that after a few spoiled sums only a few are left, and one in whose presence every sum is spoiled
    stays out.

    Args:
        storage: of the service.
        run: id of the run.
        size: of a cohort.
        invite: how many times as many are invited.
    """

    def __init__(self, storage: Storage, run: str, size: int, invite: float) -> None:
        self._storage, self._run, self._size, self._invite = storage, run, size, invite
        self.suspicion: Counter[bytes] = Counter()
        self._last: set[bytes] = set()

    def choose(self, of: Collection[bytes]) -> list[bytes]:
        """Keys of devices, in no order; empty if too few are there."""
        now = self._storage.database.now()
        there = [
            device.key
            for device in self._storage.devices.all()
            if device.revoked is None
            and device.seen is not None
            and now - device.seen < RECENT
            and device.key in of
        ]
        if len(there) < self._size:
            return []
        _CHANCE.shuffle(there)
        there.sort(key=lambda key: self.suspicion[key])
        self._last = set(there[: math.ceil(self._size * self._invite)])
        return list(self._last)

    def invited(self, keys: Collection[bytes]) -> None:
        """Who is in a session that was opened before."""
        self._last = set(keys)

    def heard(self, round: int, summed: Sequence[bytes], outcome: str) -> None:
        """How a session ended, and which devices are in its sum."""
        if outcome == "summed":
            for key in summed:
                self.suspicion.pop(key, None)
            return
        for key in self._last:
            self.suspicion[key] += 1
