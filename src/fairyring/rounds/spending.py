"""What a run spends of its budget: each round reserved before it starts, its noise, and what really happened."""

import hashlib
import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairyring.core.errors import LedgerDamaged, PlanError, PrivacyError, RunDamaged
from fairyring.core.files import replace_file
from fairyring.core.noise import Noise
from fairyring.learning.plan import Plan
from fairyring.learning.protection import Protection
from fairyring.privacy.accounting import Accountant, Spent
from fairyring.privacy.correlated import coefficients
from fairyring.privacy.entropy import KEY_BYTES, fresh
from fairyring.privacy.ledger import Head, Ledger, Promise, Reservation
from fairyring.privacy.release import Release
from fairyring.privacy.source import NoiseSource
from fairyring.records.layout import LEDGER, SECRET

_GIVEN = b" given"  # stands behind a secret that the caller gave, however soon its run is cut off


class Earlier(NamedTuple):
    """What a resumed run's folder tells of its rounds so far.

    Attributes:
        released: rounds of which it shows a result.
        over: the run had ended, so that its secret is gone.
        head: of the ledger, as the checkpoint noted it; None without one.
    """

    released: frozenset[int]
    over: bool
    head: Mapping[str, Any] | None


class Signal(NamedTuple):
    """A round's mean update beside the noise in it.

    Attributes:
        ratio: length of the true mean over length of the noise; 0 where the noise drowns it.
        noise: standard deviation of the noise in each coordinate.
    """

    ratio: float
    noise: float


class Spending:
    """Keeps a plan's promise through a run.

    Whoever makes one for a folder must be alone in it: what its ledger has open is taken for lost, and so for released.

    Args:
        plan: with a budget.
        folder: of the run, where ledger and secret lie; None to keep both in memory.
        entropy: 32 secret bytes all noise is made from; None for fresh ones.
        earlier: what a resumed run's folder tells; None for a new one.
        limited: stop at the budget.
        plan_digest: what the ledger is to name the plan by; without it the plan's digest without columns.

    Attributes:
        entropy_given: the caller gave what noise is made from, now or when the secret was made.

    Raises:
        LedgerMismatch, LedgerDamaged, StorageError: the ledger cannot be used, or is not that of the rounds there.
        RunDamaged: the secret is missing, or is none.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path | None,
        entropy: bytes | None = None,
        earlier: Earlier | None = None,
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
        if budget.rounds is not None:  # asked at once, it answers for every round of the plan
            self.accountant.fits({protection.release: budget.rounds}, budget.epsilon)
        path = folder / LEDGER if folder is not None else None
        # The secret is made after the ledger: where it is, there was one.
        if folder is not None and earlier is not None and (earlier.released or (folder / SECRET).exists()):
            _require_ledger(folder / LEDGER)
        most = budget.epsilon if limited else math.inf
        promise = Promise(
            plan_digest or plan.digest(), most, budget.delta, protection.participation, budget.unit
        )
        self.ledger = Ledger(path, promise, accountant=self.accountant)
        try:
            reservations = self._taken_up(earlier)
            self._secret = folder / SECRET if folder is not None else None
            begun = earlier if reservations else None
            secret, self.entropy_given = _root(self._secret, begun, noise.bands > 1, entropy)
            self.source = NoiseSource(noise, secret)
        except BaseException:
            self.ledger.close()
            raise
        self._pool = ThreadPoolExecutor(1, "noise")
        self._numbers: dict[
            int, int
        ] = {}  # of which reservation a round's noise is that later rounds take back
        self._latest = 0  # round that was reserved
        self._own: dict[int, int] = {}  # of which one the noise in a reservation's own sum is
        self._seen: set[int] = set()  # those whose noise may be in a sum that somebody saw
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
        """Whether a sum under masks has all its noise as the server gets it."""
        return self.by_steps or complete(self.noise)

    @property
    def head(self) -> dict[str, Any]:
        """The ledger's last entry, to be noted elsewhere."""
        return {"number": self.ledger.head.number, "hash": self.ledger.head.hash}

    def spent(self) -> Spent:
        """By all releases so far."""
        tally = self.ledger.tally()
        return self.accountant.spent(tally.counts, tally.rounds)

    def released_after(self, round: int) -> bool:
        """Whether there is a later round whose result is not in the run: only the same bits may come of it, of the same secret."""
        return any(later > round for later in self._released)

    def _taken_up(self, earlier: Earlier | None) -> tuple[Reservation, ...]:
        """What the ledger has, after what was open in it is noted as lost: a crash is a release."""
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
                do="Put the run's own ledger back, or start a new run folder: what this run spent is not known.",
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
            session: how many were asked to.

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
        """Of which reservation the noise is in the sum of this one.

        Correlated noise of later rounds takes back this round's, and may have been released: once one of them is reserved,
        what they take back stays. A round that was cancelled before them, and is run again, has the noise that nobody saw;
        if somebody may have seen that by now, its sum gets noise of its own.
        """
        if self.noise.bands <= 1 or round >= self._latest:
            self._numbers[round], self._latest = number, round
        kept = self._numbers[round]
        self._own[number] = number if kept in self._seen else kept
        return self._own[number]

    def draw(self, round: int, number: int, clients: int) -> "Future[np.ndarray]":
        """The noise of a sum of so many clients, being drawn beside what else is going on."""
        if self.noise.distributed:
            return self._pool.submit(self.source.of_clients, number, clients)
        return self._pool.submit(self.source.of_server, round, self._numbers | {round: self._own[number]})

    def deviation(self, clients: int, session: int) -> float:
        """Standard deviation of the noise on a coordinate of a sum of so many clients, of a session of so many, in steps
        of the grid."""
        sigma = self.noise.sigma
        if self.noise.distributed:
            shares = clients + max(0, self.noise.shares - self.protection.shares_of(clients, session))
            sigma *= (shares / self.noise.shares) ** 0.5
        if self.noise.bands:
            sigma *= float(np.linalg.norm(coefficients(self.noise.bands)))
        return sigma

    def signal(self, mean: np.ndarray | None, weight: float, clients: int, session: int) -> "Signal | None":
        """How far a round's update stands out of its noise, estimated from the noisy update alone, so that it tells nothing new.

        The length of the true mean comes from `|noisy|^2 = |true|^2 + |noise|^2`, which holds on average. None where no mean was
        released, and where the noise is in the clients' local steps.
        """
        if mean is None or self.by_steps or len(mean) > self.noise.dimension:
            return None
        noise = self.deviation(clients, session) / self.noise.scale / max(weight, 1e-9)
        power = float(np.vdot(mean, mean)) / (len(mean) * noise**2)
        return Signal(max(0.0, power - 1) ** 0.5, noise)

    def summary(self) -> dict[str, Any]:
        """What a run's record says of its promise at the end."""
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
        """End it; once a run has finished, nobody needs its noise again, and the secret it was made from goes."""
        self._pool.shutdown()
        self.ledger.close()
        if finished and self._secret is not None:
            self._secret.unlink(missing_ok=True)


class RoundNoise:
    """One round's noise, from its reservation to its release."""

    def __init__(
        self, spending: Spending, round: int, number: int, again: bool, clients: int, session: int
    ) -> None:
        self.spending, self.round, self.number, self.again = spending, round, number, again
        self._expected, self._session = clients, session
        self._drawn = None if spending.by_steps else spending.draw(round, number, clients)

    def draw_steps(self, client: int, examples: int, noise: np.ndarray, batches: np.ndarray) -> None:
        """Draw what a client needs for its noisy local steps.

        Args:
            client: which.
            examples: how many it has.
            noise: to be filled: int32 `[steps, coordinates]`.
            batches: to be filled: int32 `[steps, room]`; no steps where batches are not Poisson samples.
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
        """The sum that may be seen, once the ledger says so.

        Args:
            total: of so many clients: int32 or uint32.
            clients: how many are in it.
            shared: their shares of distributed noise are in it already.

        Raises:
            BudgetSpent: what really happened spends more than is left: the sum is not released.
            PrivacyError: the round was released before, with another result.
        """
        spending, noise = self.spending, self.spending.noise
        parts = []
        if self._drawn is not None and not (noise.distributed and shared):  # noisy steps have it already
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
        """No sum came of it. Nothing was released, and nothing will be, so the round spends nothing.

        Args:
            seen: the devices had been asked to unmask their sum: a server that is not trusted to add the noise may know
                it, whatever it says, and so it counts as released.
        """
        if self.again:
            return
        if self.spending.by_steps:
            # What clients made of their noisy steps is a release to whoever got it, whether or not a sum came of it.
            self.spending.ledger.lose(self.number)
        elif seen and self.spending.noise.distributed:
            self.spending.ledger.lose(self.number)
        else:
            self.spending.ledger.cancel(self.number)

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


def complete(noise: Noise) -> bool:
    """Whether clients add all of a plan's noise, and a sum under masks has it as the server gets it."""
    return noise.distributed and not noise.top_up


def check_entropy(entropy: object) -> None:
    """Raise `PlanError` unless it is 32 bytes, or left out. It is not shown: it may be most of a secret."""
    if entropy is not None and (not isinstance(entropy, bytes) or len(entropy) != KEY_BYTES):
        given = f"{len(entropy)} bytes" if isinstance(entropy, bytes) else type(entropy).__name__
        raise PlanError("entropy", given=given, expected=f"{KEY_BYTES} bytes", do="Leave it out.")


def _require_ledger(path: Path) -> None:
    if not path.is_file():
        raise LedgerDamaged(
            str(path),
            given="no such file, in the folder of a private run that has released rounds, or may have",
            expected="the ledger of what it has spent",
            do="Put it back from a copy, or start a new run folder: without it nothing more may be released.",
        )


def _root(
    path: Path | None, begun: Earlier | None, continues: bool, entropy: bytes | None
) -> tuple[bytes, bool]:
    """The secret of a run, and whether a caller gave it; one that may be resumed keeps it in a file of its owner's until it
    has ended.

    Args:
        path: of the file.
        begun: of a resumed run that has reserved something: what its folder tells.
        continues: later noise is made of what earlier noise was made of.
        entropy: what to make noise from; None for fresh entropy.
    """
    if path is not None and begun is not None:
        if path.exists():
            found = path.read_bytes()
            if found[KEY_BYTES:] not in (b"", _GIVEN) or len(found) < KEY_BYTES:
                raise _no_secret(path, f"{len(found)} bytes", "Put the whole file back")
            return found[:KEY_BYTES], len(found) > KEY_BYTES
        if continues:
            raise _no_secret(
                path, "no such file, and correlated noise, which goes on from earlier rounds'", "Put it back"
            )
        if not begun.over:
            raise _no_secret(path, "no such file, in the folder of a run that has not ended", "Put it back")
    root, given = (fresh(), b"") if entropy is None else (entropy, _GIVEN)
    if path is not None:
        replace_file(path, root + given, mode=0o600)
    return root, bool(given)


def _no_secret(path: Path, given: str, do: str) -> RunDamaged:
    return RunDamaged(
        str(path),
        given=given,
        expected=f"the {KEY_BYTES} bytes this run's noise is made from: with others, rounds that are computed again "
        "would be released twice",
        do=f"{do}, or start a new run folder.",
    )
