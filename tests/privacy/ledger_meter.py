"""An accountant simple enough to check by hand, and a promise: what the ledger's tests spend."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fairyring.privacy.ledger import Ledger, Promise
from fairyring.privacy.participation import AtMost
from fairyring.privacy.release import OfRound, Release


class Spent(NamedTuple):
    epsilon: float


class Thrifty:
    """A release of multiplier `m` spends `1 / m`; all are sums of powers of two here, so exact."""

    def spent(self, counts: Mapping[OfRound, int], rounds: int) -> Spent:
        assert rounds >= sum(counts.values())
        kinds = [((of,) if isinstance(of, Release) else of, count) for of, count in counts.items()]
        return Spent(sum(count / one.multiplier for releases, count in kinds for one in releases))

    def fits(self, counts: Mapping[OfRound, int], epsilon: float, rounds: int) -> bool:
        return self.spent(counts, rounds).epsilon <= epsilon


def noise(multiplier: float = 1.0) -> Release:
    return Release("gaussian", multiplier)


def promise_of(epsilon: float = 4.0, plan: str = "ab" * 32) -> Promise:
    return Promise(plan, epsilon, 1e-6, AtMost(3, 2))


def digest(what: object) -> bytes:
    return hashlib.sha256(str(what).encode()).digest()


def opened(path: Path | None, epsilon: float = 4.0, **more) -> Ledger:
    """A ledger that does not wait for the disk."""
    return Ledger(path, promise_of(epsilon), accountant=Thrifty(), durable=False, **more)
