"""The direct check's eyes in a run: each client's vector before any noise, and what was released instead of their sum."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from fairyring.learning.plan import Plan
from fairyring.privacy.mechanism import Checked, Mechanism
from fairyring.privacy.release import Release
from fairyring.rounds.draws import Draw


class Watch:
    """Takes the true sum of every round apart from the way it goes, and compares with it what was released.

    Args:
        plan: with a budget.
    """

    def __init__(self, plan: Plan) -> None:
        noise, spec = plan.bound.spec.noise, plan.bound.spec
        assert noise is not None
        assert plan.protection is not None
        length = plan.message_shape.vector.shape[0]
        names = [auxiliary.name for auxiliary in plan.auxiliaries]
        # Clients that count alike are counted in the clear, behind the noisy coordinates.
        noisy = names[1:] if length > noise.coordinates else names
        self.noise, self.protection = noise, plan.protection
        self.mechanism = Mechanism(noise, tuple(noisy), spec.modulus_bits or 32)
        self._total = np.zeros(length, np.int64)
        self._vectors = 0

    def __len__(self) -> int:
        return len(self.mechanism)

    def passing(self, vectors: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Encoded vectors of a round's clients, as they come: added up on the way."""
        self._total[:] = 0
        self._vectors = 0
        for client, vector in vectors:
            self._total += self.mechanism.encoded(vector)
            self._vectors += 1
            yield client, vector

    def released(self, draw: Draw, vector: np.ndarray, clients: int) -> None:
        """What left a round, of so many clients, whose vectors have passed."""
        sigma = self.noise.sigma
        if self.noise.distributed:
            # Every client adds its share, honest or not, and the server what is missing of honest ones.
            session = len(draw.sampled) + len(draw.canaries)
            shares = clients + max(0, self.noise.shares - self.protection.shares_of(clients, session))
            sigma *= (shares / self.noise.shares) ** 0.5
        self.mechanism.released(
            draw.round, self._total, vector, sigma=sigma, encoded=self._vectors, clients=clients
        )

    def check(self, counted: Mapping[int, Release], false_alarm: float) -> Checked:
        """What all rounds show, against the law and what the ledger counts, by round."""
        return self.mechanism.check(
            {round: self._sigma(release) for round, release in counted.items()}, false_alarm
        )

    def _sigma(self, release: Release) -> float:
        if release.shares:
            return release.sigma * release.shares**0.5
        return release.multiplier * self.noise.l2
