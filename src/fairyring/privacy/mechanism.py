"""A direct check of the mechanism: the noise that was added to the true sums, tested against the claimed law.

A simulation knows what no attacker does: each client's encoded vector, and so the true sum. Subtracting it from what was
released gives the noise. If the noise is as claimed, its scores are independent and standard normal (`_normal_scores`), and
every test of them (`_noise_tests`) has an exact distribution or a bound. So the rate of false alarms can be chosen.

The check finds what canaries cannot: noise missing from some coordinates, a loss or an accuracy, noise that is slightly too
small, a clip norm that is slightly too large. `BLIND` says what it cannot find.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fairyring.core.errors import PlanError, PrivacyError
from fairyring.core.noise import Noise
from fairyring.privacy import _noise_tests as tests
from fairyring.privacy._normal_scores import chance_of_zero, scores, whitening
from fairyring.privacy._rows import Rows

BLIND = (
    "It trusts the simulation's own view of the true sums, and it is about the noise of this run: it does not show that "
    "the secret the noise is made from stays secret, that a claimed epsilon follows from the noise, or that a real device "
    "does the same."
)
_ROUNDED = 1e-9  # tolerance for norms and standard deviations computed in another order


@dataclass(frozen=True)
class DirectCheck:
    """Compares the noise in each round's sum with the claimed law, coordinate by coordinate. It does not affect the model.

    Args:
        false_alarm: the probability that an honest run fails, over all tests together.

    Raises:
        PlanError: `false_alarm` is not in (0, 0.1].
    """

    false_alarm: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm <= 0.1:
            raise PlanError(
                "direct check false_alarm",
                given=self.false_alarm,
                expected="a probability above 0, at most 0.1",
                do="Leave it out for 1e-6.",
            )


@dataclass(frozen=True)
class Finding:
    """The result of one test.

    Attributes:
        name: what was tested.
        statistic: what was measured: a ratio to the claim, a count, a correlation, or a number of standard errors.
        p: p-value under the claimed law, or a bound on it; 1 or 0 for an exact property.
        holds: whether `p` is at least the test's share of the false alarms.
        says: what is wrong, as text; empty if the test holds.
    """

    name: str
    statistic: float
    p: float
    holds: bool
    says: str


@dataclass(frozen=True)
class Checked:
    """The result of the direct check of a run.

    Attributes:
        rounds: number of releases compared.
        coordinates: number of noisy coordinates of each.
        ratio: standard deviation of the noise relative to the claim, over all rounds and coordinates.
        resolution: standard error of `ratio`.
        longest: L2 norm of the longest encoded vector relative to the claim.
        false_alarm: probability that an honest run fails.
        findings: results of all tests.
    """

    rounds: int
    coordinates: int
    longest: float
    ratio: float
    resolution: float
    false_alarm: float
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether every test holds."""
        return all(finding.holds for finding in self.findings)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The tests that do not hold."""
        return tuple(finding for finding in self.findings if not finding.holds)

    @property
    def statement(self) -> str:
        """In words."""
        if not self.rounds:
            return "Nothing was released: there is no noise to compare with its law."
        seen = (
            f"Released less true sum, {self.rounds:,} rounds of {self.coordinates:,} coordinates: the noise has {self.ratio:.4g} "
            f"± {self.resolution:.1g} times the standard deviation that is claimed, and the longest vector "
            f"{self.longest:.4g} times the norm."
        )
        if self.holds:
            return (
                f"{seen} All {len(self.findings)} tests of the claimed law hold, of which one honest run in "
                f"{1 / self.false_alarm:,.0f} fails any."
            )
        return f"{seen} The claimed law does not hold: {' '.join(finding.says for finding in self.failed)}"

    def describe(self) -> dict[str, Any]:
        """The result as plain values, for a run's record."""
        return {
            "holds": self.holds,
            "rounds": self.rounds,
            "coordinates": self.coordinates,
            "longest": self.longest,
            "ratio": self.ratio,
            "resolution": self.resolution,
            "false_alarm": self.false_alarm,
            "statement": self.statement,
            "blind": BLIND,
            "tests": [asdict(finding) for finding in self.findings],
        }


class Mechanism:
    """Collects what a run's clients send and what it releases, and checks both against the plan's claims.

    Args:
        noise: the claimed noise.
        auxiliaries: names of the auxiliary values among the noisy coordinates, in order.
        bits: sums are taken modulo `2^bits`.

    One float32 is kept per noisy coordinate of a release, two for correlated noise; above 1 GiB in a temporary file.
    """

    def __init__(self, noise: Noise, auxiliaries: tuple[str, ...], bits: int) -> None:
        self.noise, self.bits = noise, bits
        self._parts = _parts(noise, auxiliaries)
        self._rows = Rows(noise.coordinates)
        # Clients respond to a model that contains earlier noise, which correlated noise partly cancels. Only the new part of
        # a round's noise is independent of the sum, and it is known only once all rounds are.
        self._totals = Rows(noise.coordinates) if noise.mechanism == "correlated" else None
        self._rounds: list[int] = []
        self._sigmas: list[float] = []
        self._longest, self._largest, self._vectors = 0, 0, 0
        self._zeros, self._expected_zeros = 0, 0.0
        self._low_bits, self._modulus = np.zeros(tests.MODULUS, np.int64), tests.MODULUS
        self._following: list[float] = []
        self._clear, self._wrapped, self._miscounted = 0, 0, 0

    def __len__(self) -> int:
        return len(self._rounds)

    def encoded(self, vector: np.ndarray) -> np.ndarray:
        """Record one client's encoded vector before any noise; returns it as signed integers, int64 `[length]`."""
        centred = signed(vector, self.bits)
        own = np.abs(centred[: self.noise.coordinates])
        self._longest = max(self._longest, _squared(own))
        self._largest = max(self._largest, int(own.sum()))
        self._vectors += 1
        return centred

    def released(
        self,
        round: int,
        total: np.ndarray,
        vector: np.ndarray,
        *,
        sigma: float,
        encoded: int,
        clients: int,
    ) -> None:
        """Record one release.

        Args:
            round: number of the round, from 1, ascending.
            total: the true sum of the encoded vectors, int64 `[length]`.
            vector: what was released, int32 or uint32 `[length]`.
            sigma: standard deviation of the noise that should be in it.
            encoded: number of vectors in the true sum.
            clients: number of clients in the release, as stated.

        Raises:
            PrivacyError: shapes differ.
        """
        if total.shape != vector.shape or len(total) < self.noise.coordinates:
            raise PrivacyError(
                "release to be checked",
                given=f"shape {vector.shape} for a true sum of shape {total.shape}",
                expected=f"the same, at least {self.noise.coordinates}",
                do="Record the whole vector that the round released.",
            )
        added = signed(vector.astype(np.int64) - total, self.bits)
        own, noise = added[: self.noise.coordinates], self.noise
        self._clear += int(np.count_nonzero(added[noise.coordinates :]))
        self._wrapped += int(np.count_nonzero(np.abs(total + added) >= 1 << (self.bits - 1)))
        self._miscounted += encoded != clients
        self._zeros += int(np.count_nonzero(own == 0))
        self._expected_zeros += len(own) * chance_of_zero(noise.mechanism, sigma, min(noise.bands, round))
        self._modulus = min(self._modulus, tests.low_bits(sigma))
        self._low_bits += np.bincount(own & (tests.MODULUS - 1), minlength=tests.MODULUS)
        # The dither is not a secret. Derived from what was released, it gives the same verdict every time.
        dice = np.random.default_rng(list(hashlib.sha256(np.ascontiguousarray(vector).data).digest()))
        row = scores(own, noise.mechanism, sigma, dice)
        sent = total[: noise.coordinates].astype(np.float64)
        if self._totals is None:
            self._following.append(_cosine(row, sent))
        else:
            self._totals.append(sent)
        self._rounds.append(round)
        self._sigmas.append(sigma)
        self._rows.append(row)

    def check(self, counted: Mapping[int, float], false_alarm: float = 1e-6) -> Checked:
        """Run all tests on what was recorded.

        Args:
            counted: standard deviation of the noise that the ledger assumes in each round.
            false_alarm: probability that an honest run fails.
        """
        exact = self._exact(counted)
        if not len(self):
            return Checked(
                0, self.noise.coordinates, exact[0].statistic, 1.0, math.inf, false_alarm, tuple(exact)
            )
        mixing = None
        if self.noise.mechanism == "correlated":
            mixing = whitening(self._rounds, self.noise.bands, self._sigmas[0])
        summary = tests.summarise(self._rows, mixing)
        measured = [
            *tests.variances(summary, self._parts, self._rounds),
            tests.silence(self._zeros, self._expected_zeros, len(self) * self.noise.coordinates),
            *tests.means(summary, self._parts),
            tests.following(self._along(mixing), self.noise.coordinates),
            *tests.repeats(summary, self._rounds),
            *tests.shape(summary),
            *tests.lattice(self._low_bits.reshape(-1, self._modulus).sum(axis=0)),
        ]
        each = false_alarm / len(measured)
        measured = [
            Finding(m.name, float(m.statistic), float(m.p), bool(m.p >= each), "" if m.p >= each else m.says)
            for m in measured
        ]
        numbers = len(self) * self.noise.coordinates
        ratio = math.sqrt(float(summary.of_rounds.sum()) / numbers)
        return Checked(
            len(self),
            self.noise.coordinates,
            exact[0].statistic,
            ratio,
            ratio / math.sqrt(2 * numbers),
            false_alarm,
            tuple(exact + measured),
        )

    def _along(self, mixing: np.ndarray | None) -> list[float]:
        """Cosine between each round's new noise and its true sum."""
        if self._totals is None or mixing is None:
            return self._following
        products, noise, sums = np.zeros((3, len(self)))
        chunks = zip(self._rows.columns(1 << 13), self._totals.columns(1 << 13), strict=True)
        for (_, rows), (_, totals) in chunks:
            white = mixing @ rows.astype(np.float64)
            products += np.einsum("td,td->t", white, totals)
            noise += np.einsum("td,td->t", white, white)
            sums += np.einsum("td,td->t", totals, totals, dtype=np.float64)
        return (products / np.sqrt(np.maximum(noise * sums, 1e-300))).tolist()

    def _exact(self, counted: Mapping[int, float]) -> list[Finding]:
        """Tests of exact properties, which either hold or do not."""

        def finding(name: str, statistic: float, holds: bool, says: str) -> Finding:
            return Finding(name, float(statistic), float(holds), bool(holds), "" if holds else says)

        overstated = max(
            (counted.get(r, math.inf) / s for r, s in zip(self._rounds, self._sigmas, strict=True)),
            default=0.0,
        )
        l2, l1 = math.sqrt(self._longest) / self.noise.l2, self._largest / self.noise.l1
        return [
            finding(
                "L2 norm",
                l2,
                l2 <= 1 + _ROUNDED,
                f"The longest of {self._vectors:,} encoded vectors has {l2:.4g} times the L2 norm that is claimed.",
            ),
            finding(
                "L1 norm",
                l1,
                l1 <= 1 + _ROUNDED,
                f"The largest of {self._vectors:,} encoded vectors has {l1:.4g} times the L1 norm that is claimed.",
            ),
            finding(
                "clients in the sum",
                self._miscounted,
                not self._miscounted,
                f"{self._miscounted} rounds released a sum of another number of clients than sent something.",
            ),
            finding(
                "coordinates in the clear",
                self._clear,
                not self._clear,
                f"{self._clear} coordinates that have no noise were changed on the way.",
            ),
            finding(
                "room in the modulus",
                self._wrapped,
                not self._wrapped,
                f"{self._wrapped} coordinates of sums with their noise do not fit the modulus, and wrapped around.",
            ),
            finding(
                "noise that is counted",
                overstated,
                overstated <= 1 + _ROUNDED,
                f"The ledger counts up to {overstated:.4g} times the noise that there should be (inf: it misses a release).",
            ),
        ]


def signed(words: np.ndarray, bits: int) -> np.ndarray:
    """Words modulo `2^bits` as signed integers: int64."""
    half = np.int64(1) << np.int64(bits - 1)
    return ((words.astype(np.int64) + half) & (2 * half - 1)) - half


def _squared(own: np.ndarray) -> int:
    """The exact sum of squares of integers below 2^31, which may exceed int64."""
    high, low = own >> 16, own & 0xFFFF
    return (int(np.dot(high, high)) << 32) + (int(np.dot(high, low)) << 17) + int(np.dot(low, low))


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    length = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(np.dot(first, second)) / length if length > 0 else 0.0


def _parts(noise: Noise, auxiliaries: tuple[str, ...]) -> dict[str, slice]:
    """The noisy coordinates by name: the update, parts of it, and every auxiliary value."""
    update = noise.dimension
    count = max(1, min(64, update // 16))
    cuts = [update * i // count for i in range(count + 1)]
    parts = {"the update": slice(0, update)}
    parts |= {f"coordinates {a} to {b - 1}": slice(a, b) for a, b in pairwise(cuts)}
    copies = (noise.coordinates - update) // max(1, len(auxiliaries))
    for place, name in enumerate(auxiliaries):
        # A metric may have the same name as another part: keep both.
        own = name if name not in parts else f"{name} (auxiliary value {place + 1})"
        parts[own] = slice(update + place * copies, update + (place + 1) * copies)
    return {name: part for name, part in parts.items() if part.stop > part.start}
