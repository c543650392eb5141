"""What the direct check sees of a run: each client's vector before any noise, and what was released in place of their sum."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from fairyring.learning.plan import Plan
from fairyring.privacy.mechanism import Checked, Mechanism
from fairyring.privacy.release import Release
from fairyring.rounds.cohorts import RoundCohort


class Watch:
    """Computes the true sum of each round on its own, and compares what was released with it.

    Args:
        plan: one with a budget.
    """

    def __init__(self, plan: Plan) -> None:
        noise, spec = plan.bound.spec.noise, plan.bound.spec
        assert noise is not None
        assert plan.protection is not None
        length = plan.message_shape.vector.shape[0]
        names = [auxiliary.name for auxiliary in plan.auxiliaries]
        # Where all clients have the same weight they are counted in the clear, after the noisy coordinates.
        noisy = names[1:] if length > noise.coordinates else names
        self.noise, self.protection = noise, plan.protection
        self.mechanism = Mechanism(noise, tuple(noisy), spec.modulus_bits or 32)
        self._total = np.zeros(length, np.int64)
        self._vectors = 0

    def __len__(self) -> int:
        return len(self.mechanism)

    def passing(self, vectors: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Pass on the encoded vectors of a round's clients, and add them up on the way."""
        self._total[:] = 0
        self._vectors = 0
        for client, vector in vectors:
            self._total += self.mechanism.encoded(vector)
            self._vectors += 1
            yield client, vector

    def released(self, cohort: RoundCohort, vector: np.ndarray, clients: int) -> None:
        """Take the noisy sum that a round released, of so many clients, whose vectors have passed."""
        sigma = self.noise.sigma
        if self.noise.distributed:
            # Every client adds its share, honest or not, and the server adds the missing shares of honest clients.
            session = len(cohort.sampled) + len(cohort.canaries)
            shares = clients + max(0, self.noise.shares - self.protection.shares_of(clients, session))
            sigma *= (shares / self.noise.shares) ** 0.5
        self.mechanism.released(
            cohort.round, self._total, vector, sigma=sigma, encoded=self._vectors, clients=clients
        )

    def check(self, counted: Mapping[int, Release], false_alarm: float) -> Checked:
        """Compare all rounds with the law of the noise and with what the ledger counts, by round."""
        return self.mechanism.check(
            {round: self._sigma(release) for round, release in counted.items()}, false_alarm
        )

    def _sigma(self, release: Release) -> float:
        if release.shares:
            return release.sigma * release.shares**0.5
        return release.multiplier * self.noise.l2
