"""What a run spends of its privacy budget: each round is reserved before it starts, gets its noise, and is settled as it was."""

import hashlib
import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairyring.core.errors import LedgerDamaged, PrivacyError
from fairyring.core.noise import Noise
from fairyring.learning.plan import Plan
from fairyring.learning.protection import Protection
from fairyring.privacy.accounting import Accountant, Spent
from fairyring.privacy.correlated import coefficients
from fairyring.privacy.ledger import Head, Ledger, Promise, Reservation
from fairyring.privacy.release import Release
from fairyring.privacy.source import NoiseSource
from fairyring.records.layout import LEDGER, SECRET
from fairyring.rounds.secret import root_secret


class EarlierRounds(NamedTuple):
    """What the folder of a resumed run tells of its rounds so far.

    Attributes:
        released: rounds whose result is in the folder.
        over: the run was over, so that its secret may be gone.
        head: of the ledger, as the checkpoint noted it; None without a checkpoint.
    """

    released: frozenset[int]
    over: bool
    head: Mapping[str, Any] | None


class SignalToNoise(NamedTuple):
    """A round's mean update beside the noise in it.

    Attributes:
        ratio: length of the true mean over length of the noise; 0 where the noise drowns it.
        noise: standard deviation of the noise in each coordinate.
    """

    ratio: float
    noise: float


class RunSpending:
    """Keeps a run within its plan's privacy budget: reserves each round in the ledger, and makes its noise.

    Only one may be open for a folder at a time: reservations that its ledger has open are taken for lost, and so for released.

    Args:
        plan: one with a budget.
        folder: of the run, where ledger and secret are; None to keep both in memory.
        entropy: 32 secret bytes that all noise is made from; None for fresh ones.
        earlier: what the folder of a resumed run tells; None for a new run.
        limited: whether to stop at the budget.
        plan_digest: by which the ledger names the plan; None for the plan's digest without columns.

    Attributes:
        entropy_given: a caller gave what the noise is made from, now or when the run was begun.

    Raises:
        LedgerMismatch, LedgerDamaged, StorageError: the ledger cannot be used, or does not belong to these rounds.
        RunDamaged: the secret is missing, or is not one.
        RunError: the run is over, and so its secret is deleted, which more rounds would need.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path | None,
        entropy: bytes | None = None,
        earlier: EarlierRounds | None = None,
        *,
        limited: bool = True,
        plan_digest: str | None = None,
    ) -> None:
        protection, noise = plan.protection, plan.noise
        assert protection is not None
        assert noise is not None
        self.protection: Protection = protection
        self.noise: Noise = noise
        budget = protection.budget
        self.accountant = Accountant(protection.participation, budget.delta, budget.unit)
        self.rate = plan.local.rate
        if budget.rounds is not None:  # asked once, it has the answer for every round of the plan
            self.accountant.fits({protection.release: budget.rounds}, budget.epsilon)
        path = folder / LEDGER if folder is not None else None
        # The secret is made after the ledger: where there is a secret, there was a ledger.
        if folder is not None and earlier is not None and (earlier.released or (folder / SECRET).exists()):
            _require_ledger(folder / LEDGER)
        most = budget.epsilon if limited else math.inf
        promise = Promise(
            plan_digest or plan.digest(), most, budget.delta, protection.participation, budget.unit
        )
        self.ledger = Ledger(path, promise, accountant=self.accountant)
        try:
            reservations = self._resumed(earlier)
            self._secret = folder / SECRET if folder is not None else None
            begun = earlier if reservations else None
            secret, self.entropy_given = root_secret(
                self._secret, entropy, over=begun.over if begun else None, continues=noise.bands > 1
            )
            self.source = NoiseSource(noise, secret)
        except BaseException:
            self.ledger.close()
            raise
        self._pool = ThreadPoolExecutor(1, "noise")
        # Noise is made for a reservation, by its number.
        self._numbers: dict[int, int] = {}  # round -> the reservation whose noise later rounds take back
        self._latest = 0  # the last round that was reserved
        self._own: dict[int, int] = {}  # reservation -> the one whose noise is in its sum
        self._seen: set[int] = set()  # reservations whose noise may be in a sum that somebody saw
        for one in reservations:
            own = self._address(one.round, one.number)
            if not one.cancelled:
                self._seen.add(own)
        self._released = {r.round: r.number for r in reservations if r.digest}

    @property
    def by_steps(self) -> bool:
        """Whether the noise is in the clients' local steps, so that nothing is added to a sum of updates."""
        return self.protection.release.steps > 0

    @property
    def complete(self) -> bool:
        """Whether a sum under masks has all of its noise when the server gets it."""
        return self.by_steps or complete(self.noise)

    @property
    def head(self) -> dict[str, Any]:
        """The ledger's last entry, to be noted elsewhere."""
        return {"number": self.ledger.head.number, "hash": self.ledger.head.hash}

    def spent(self) -> Spent:
        """What all releases so far have spent."""
        tally = self.ledger.tally()
        return self.accountant.spent(tally.counts, tally.rounds)

    def released_after(self, round: int) -> bool:
        """Whether a later round was released whose result is not in the run: it must come out again to the same bits."""
        return any(later > round for later in self._released)

    def _resumed(self, earlier: EarlierRounds | None) -> tuple[Reservation, ...]:
        """The ledger's reservations, after open ones were noted as lost: a crash counts as a release."""
        if earlier is None:
            return self.ledger.reservations()
        if earlier.head is not None:
            self.ledger.check(Head(earlier.head["number"], earlier.head["hash"]))
        reservations = self.ledger.reservations()
        unknown = sorted(earlier.released - {r.round for r in reservations})
        if unknown:
            raise LedgerDamaged(
                repr(self.ledger),
                given=f"no reservation of round {unknown[0]}, whose result is in the run folder",
                expected="one of every round that released something",
                do="Restore the run's own ledger, or start a new run folder: what this run has spent is not known.",
            )
        for one in reservations:
            if one.open:
                self.ledger.lose(one.number)
        return self.ledger.reservations()

    def begin(self, round: int, clients: int, session: int) -> "RoundNoise":
        """Reserve a round, and start drawing its noise.

        Args:
            round: from 1.
            clients: how many will report, as far as is known.
            session: how many were asked.

        Raises:
            BudgetSpent: it would spend more than is left. Nothing happens.
        """
        number = self._released.get(round)
        again = number is not None
        if number is None:
            number = self.ledger.reserve(round, self.protection.release)
        if not again:
            self._address(round, number)
        return RoundNoise(self, round, number, again, clients, session)

    def _address(self, round: int, number: int) -> int:
        """The reservation whose noise goes into the sum of this one.

        Correlated noise of later rounds takes back this round's noise, and may have been released: once a later round is
        reserved, what it takes back is fixed. A round that was cancelled before that, and is run again, gets the same noise if
        nobody saw it; if somebody may have seen it by now, its sum gets noise of its own.
        """
        if self.noise.bands <= 1 or round >= self._latest:
            self._numbers[round], self._latest = number, round
        kept = self._numbers[round]
        self._own[number] = number if kept in self._seen else kept
        return self._own[number]

    def draw(self, round: int, number: int, clients: int) -> "Future[np.ndarray]":
        """Start to draw the noise of a sum of so many clients, in a thread of its own."""
        if self.noise.distributed:
            return self._pool.submit(self.source.of_clients, number, clients)
        return self._pool.submit(self.source.of_server, round, self._numbers | {round: self._own[number]})

    def deviation(self, clients: int, session: int) -> float:
        """Standard deviation of the noise on a coordinate of a sum, in steps of the grid.

        Args:
            clients: how many are in the sum.
            session: how many were asked.
        """
        sigma = self.noise.sigma
        if self.noise.distributed:
            shares = clients + max(0, self.noise.shares - self.protection.shares_of(clients, session))
            sigma *= (shares / self.noise.shares) ** 0.5
        if self.noise.bands:
            sigma *= float(np.linalg.norm(coefficients(self.noise.bands)))
        return sigma

    def signal_to_noise(
        self, mean: np.ndarray | None, weight: float, clients: int, session: int
    ) -> SignalToNoise | None:
        """How far a round's update stands out of its noise, estimated from the noisy update alone, so that it tells nothing new.

        The length of the true mean comes from `|noisy|^2 = |true|^2 + |noise|^2`, which holds on average. None where no mean was
        released, and where the noise is in the clients' local steps.
        """
        if mean is None or self.by_steps or len(mean) > self.noise.dimension:
            return None
        noise = self.deviation(clients, session) / self.noise.scale / max(weight, 1e-9)
        power = float(np.vdot(mean, mean)) / (len(mean) * noise**2)
        return SignalToNoise(max(0.0, power - 1) ** 0.5, noise)

    def summary(self) -> dict[str, Any]:
        """What `run.json` says at the end of what was spent."""
        spent = self.spent()
        reservations = self.ledger.reservations()
        return {
            "spent": spent.epsilon,
            "accountant": spent.accountant,
            "assumed": spent.sampling,
            "releases": sum(1 for r in reservations if r.digest),
            "reservations": len(reservations),
            "lost": sum(1 for r in reservations if r.lost),
            "ledger": self.head,
        }

    def close(self, *, finished: bool) -> None:
        """Close the ledger; the secret of a finished run is deleted, since nobody needs its noise again."""
        self._pool.shutdown()
        self.ledger.close()
        if finished and self._secret is not None:
            self._secret.unlink(missing_ok=True)


class RoundNoise:
    """One round's noise, from its reservation to its release."""

    def __init__(
        self, spending: RunSpending, round: int, number: int, again: bool, clients: int, session: int
    ) -> None:
        self.spending, self.round, self.number, self.again = spending, round, number, again
        self._expected, self._session = clients, session
        self._drawn = None if spending.by_steps else spending.draw(round, number, clients)

    def draw_steps(self, client: int, examples: int, noise: np.ndarray, batches: np.ndarray) -> None:
        """Draw what a client needs for its noisy local steps.

        Args:
            client: which client.
            examples: how many it has.
            noise: to be filled: int32 `[steps, coordinates]`.
            batches: to be filled: int32 `[steps, room]`; with no steps where batches are not Poisson samples.
        """
        source, rate = self.spending.source, self.spending.rate
        for step in range(len(noise)):
            noise[step] = source.of_step(self.number, client, step)
        for step in range(len(batches)):
            assert rate is not None
            places = source.batch_of(self.number, client, step, examples, rate)
            batches[step, : len(places)] = places

    def share(self, client: int, modulus_bits: int, vector: np.ndarray) -> np.ndarray:
        """One client's vector with its share of the noise: uint32, modulo `2**modulus_bits`."""
        if not self.spending.noise.distributed:
            return vector
        share = self.spending.source.of_client(self.number, client)
        noisy = vector.copy()
        noisy[: len(share)] += share.astype(np.uint32)
        return noisy & np.uint32((1 << modulus_bits) - 1)

    def release(self, total: np.ndarray, clients: int, *, shared: bool) -> np.ndarray:
        """The noisy sum, which may be seen: the ledger has noted that it is released.

        It may be called again: the same noise comes out, and the round counts once.

        Args:
            total: the sum, int32 or uint32 `[length]`.
            clients: how many are in it.
            shared: whether their shares of distributed noise are in it already.

        Raises:
            BudgetSpent: what really happened would spend more than is left: the sum is not released.
            PrivacyError: the round was released before, with another result.
        """
        spending, noise = self.spending, self.spending.noise
        parts = []
        if self._drawn is not None and not (
            noise.distributed and shared
        ):  # the sum of noisy steps has its noise already
            others = noise.distributed and clients != self._expected
            drawn = spending.draw(self.round, self.number, clients) if others else self._drawn
            parts.append(drawn.result())
        if noise.distributed and self._honest(clients) < noise.shares:
            parts.append(spending.source.missing(self.number, noise.shares - self._honest(clients)))
        noisy = total.copy()
        for part in parts:
            # The low bits of a whole number are those of its sum modulo a power of two.
            noisy[: len(part)] += part.astype(np.uint32).view(total.dtype)
        self._settle(hashlib.sha256(noisy.data).digest(), clients)
        return noisy

    def cancel(self, *, seen: bool = False) -> None:
        """Note that there was no sum. Nothing was released, and nothing will be, so the round spends nothing.

        Args:
            seen: the devices had been asked to unmask their sum. A server that is not trusted to add the noise may then know
                the sum, whatever it says, so the round counts as released.
        """
        if self.again:
            return
        if self.spending.by_steps:
            # What a client sends after noisy steps is a release to whoever received it, with or without a sum.
            self.spending.ledger.lose(self.number)
        elif seen and self.spending.noise.distributed:
            self.spending.ledger.lose(self.number)
        else:
            self.spending.ledger.cancel(self.number)
        self.again = True

    def _honest(self, clients: int) -> int:
        return self.spending.protection.shares_of(clients, self._session)

    def _settle(self, digest: bytes, clients: int) -> None:
        spending = self.spending
        if self.again:
            if not spending.ledger.again(self.round, digest):
                raise PrivacyError(
                    f"round {self.round}",
                    given="another result than the one released before, of which a checkpoint knew nothing",
                    expected="the same bits: a second result would be a second release",
                    do="Resume on the machine and with the versions the run was made with, or start a new run.",
                )
            return
        really = spending.protection.release
        if spending.noise.distributed:
            shares = max(self._honest(clients), spending.noise.shares)
            really = Release.of(spending.noise, shares)
        if really != spending.protection.release:
            spending.ledger.amend(self.number, really)
        spending.ledger.release(self.number, digest)
        self.again = True


def complete(noise: Noise) -> bool:
    """Whether clients add all of the noise, so that a sum under masks has it when the server gets it."""
    return noise.distributed and not noise.top_up


def _require_ledger(path: Path) -> None:
    if not path.is_file():
        raise LedgerDamaged(
            str(path),
            given="no such file, in the folder of a private run that has released rounds, or may have",
            expected="the ledger of what it has spent",
            do="Restore it from a copy, or start a new run folder: without it nothing more may be released.",
        )
