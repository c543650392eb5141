"""What releases spend together: epsilon at a fixed delta, and the smallest noise that stays within a budget."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fairyring.core.errors import PlanError
from fairyring.core.rounding import at_most
from fairyring.privacy import _checks
from fairyring.privacy._composing import compose, rough_epsilon
from fairyring.privacy._search import smallest_multiplier
from fairyring.privacy.participation import (
    AnyParticipation,
    FixedSize,
    PoissonSampled,
    relation_in,
    sampling_in,
)
from fairyring.privacy.release import OfRound, Release

SLACK = 1e-9  # relative to epsilon: a plan calibrated to a budget fits it in spite of rounding
LEAST_MULTIPLIER = 0.01  # that `calibrate` returns, however large the budget
MAXIMUM_MULTIPLIER = 2.0**24  # that it tries
_REMEMBERED = 512


@dataclass(frozen=True)
class Spent:
    """A guarantee and everything it rests on.

    Attributes:
        epsilon, delta: of (epsilon, delta)-differential privacy.
        unit: `"device"` or `"example"`: whose data is protected.
        relation: which populations are neighbours.
        sampling: assumption on who takes part when.
        accountant: how epsilon was computed.
    """

    epsilon: float
    delta: float
    unit: str
    relation: str
    sampling: str
    accountant: str

    def __str__(self) -> str:
        return (
            f"epsilon {at_most(self.epsilon)} at delta {self.delta:.3g}, for one {self.unit} "
            f"(neighbours: {self.relation}), assuming {self.sampling}; accounted by {self.accountant}."
        )


class Accountant:
    """Composes releases under one participation assumption, at one delta.

    Every epsilon is an upper bound. How it is computed depends on the participation and the mechanisms:

    - `AtMost`, Gaussian: a device is in at most `k = min(times, ceil(rounds / separation))` rounds; the `k` with
      the least noise compose to one Gaussian, whose epsilon is exact (Balle and Wang 2018, Theorem 8).
    - `AtMost`, correlated: one Gaussian, whose multiplier is divided by `correlated.sensitivity` of the rounds so far. The
      effect of floating point in mixing this noise is not counted: a shift of at most 10^-6 standard deviations, for 10^9
      coordinates, 10^4 rounds and 12 bands (see `source`).
    - `AtMost`, discrete Gaussian or Skellam: the `k` largest Rényi divergences at each order, added and converted.
    - `PoissonSampled`, Gaussian: dp-accounting's privacy loss distributions, in steps of 1e-4 (of 1e-3 below a
      multiplier of 0.5); Rényi divergences if those give less, below a multiplier of 0.2, and above an epsilon of 60.
    - `PoissonSampled`, discrete Gaussian or Skellam: Rényi divergences amplified by sampling.
    - `FixedSize`, Gaussian: the privacy profile of Zhu, Dong and Wang 2022, Proposition 30, for sampling
      without replacement, as a privacy loss distribution that dp-accounting composes. Steps are as above for half the
      multiplier, since replacing a device moves a sum by twice the clip norm. dp-accounting's Rényi divergences where
      that is left out.

    With sampling, the bound without sampling is used if it is smaller.

    Rounds are counted, each with all its releases. A round that was run again after a crash has two releases: a device in
    the round is in both, whatever the separation of its rounds, and both share one sample. In training with noise in every
    local step, a release is `steps` of them, each on its own batch, also if a round is run again.

    Args:
        participation: assumption on who takes part in which rounds.
        delta: in `(0, 1)`.
        unit: `"device"` or `"example"`; it affects only the wording of the result.

    Raises:
        PlanError: an argument is out of range; from `spent` and `fits`, a release cannot be accounted for under this
            participation, or is incompletely described.
        MissingExtra: from `spent` and `fits`, dp-accounting is not installed.
    """

    def __init__(self, participation: AnyParticipation, delta: float, unit: str = "device") -> None:
        _checks.participation(participation)
        _checks.delta(delta)
        self.unit = unit
        self.participation, self.delta = participation, float(delta)
        self.computed = 0  # number of full computations so far, which `fits` keeps low
        self._known: OrderedDict[tuple[frozenset[tuple[tuple[Release, ...], int]], int], Spent] = (
            OrderedDict()
        )
        self._bounds: dict[float, _Frontier] = {}

    def spent(self, counts: Mapping[OfRound, int], rounds: int | None = None) -> Spent:
        """What so many rounds of each kind spend together; without rounds, epsilon is 0.

        Args:
            counts: number of rounds by what they released: a `Release`, or a tuple of several from the same round.
            rounds: number of rounds from the first to the last, including those without a release. By default the
                number of rounds in `counts`.
        """
        requested = _checks.counts(counts)
        return self._spent(_Query(requested, _checks.span(rounds, sum(requested.values()))))

    def _spent(self, query: "_Query") -> Spent:
        requested, span = query
        key = frozenset(requested.items()), span
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        kept = self.participation.aside if isinstance(self.participation, PoissonSampled) else 0.0
        epsilon, accountant = compose(requested, self.participation, self.delta * (1 - kept), span)
        self.computed += bool(requested)
        result = Spent(
            max(0.0, epsilon),
            self.delta,
            self.unit,
            relation_in(self.participation, self.unit),
            sampling_in(self.participation, span, self.unit),
            accountant,
        )
        self._known[key] = result
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return result

    def fits(self, counts: Mapping[OfRound, int], epsilon: float, rounds: int | None = None) -> bool:
        """Whether so many rounds spend at most `epsilon`, to one part in 10^9. Arguments as for `spent`.

        This is cheap to call before every round. Counts below others known to fit, or above others known not to fit, need
        no computation, and while a run grows, larger counts are computed first. If the whole plan is asked first, its
        answer covers every later call within the plan.
        """
        _checks.budget(epsilon)
        requested = _checks.counts(counts)
        query = _Query(requested, _checks.span(rounds, sum(requested.values())))
        bounds = self._bounds.setdefault(float(epsilon), _Frontier())
        while (known := bounds.answer(query)) is None:
            lookahead = bounds.lookahead(query)
            spent = self._spent(lookahead).epsilon
            bounds.learn(lookahead, spent <= epsilon * (1 + SLACK))
        return known


class _Query(NamedTuple):
    """Counts of rounds, and the number of rounds they are spread over."""

    counts: dict[tuple[Release, ...], int]
    rounds: int

    def within(self, other: "_Query") -> bool:
        """Whether the other has at least as many rounds of each kind, over at least as many rounds."""
        fewer = all(n <= other.counts.get(kind, 0) for kind, n in self.counts.items())
        return fewer and self.rounds <= other.rounds

    def grown(self, fraction: float) -> "_Query":
        """Counts larger by this fraction in each kind, over correspondingly more rounds."""
        counts = {kind: n + math.floor(n * fraction) for kind, n in self.counts.items()}
        return _Query(counts, self.rounds + sum(counts.values()) - sum(self.counts.values()))


class _Frontier:
    """Counts known to fit an epsilon, and counts known not to. More releases never spend less."""

    def __init__(self) -> None:
        self.fitting: list[_Query] = []
        self.spending: list[_Query] = []
        self.reach = 1.0  # how far to look ahead, as a fraction of the requested counts

    def answer(self, query: _Query) -> bool | None:
        if not query.counts or any(query.within(known) for known in self.fitting):
            return True
        return False if any(known.within(query) for known in self.spending) else None

    def lookahead(self, query: _Query) -> _Query:
        """The counts to compute: those requested, or larger ones if the run grows, so that its next calls are covered."""
        counts, rounds = query
        if not any(self.answer(_Query(counts | {kind: n - 1}, rounds - 1)) for kind, n in counts.items()):
            return query
        while True:
            extended = query.grown(self.reach)
            if extended == query or self.answer(extended) is None:
                return extended
            self.reach /= 2

    def learn(self, query: _Query, fits: bool) -> None:
        if fits:
            self.fitting = [known for known in self.fitting if not known.within(query)] + [query]
        else:
            self.spending = [known for known in self.spending if not query.within(known)] + [query]
        self.reach = min(1.0, self.reach * 2) if fits else self.reach / 2


def epsilon(
    noise_multiplier: float,
    *,
    rounds: int,
    delta: float,
    participation: AnyParticipation,
    mechanism: str = "gaussian",
    bands: int = 0,
) -> Spent:
    """What `rounds` equal releases with this much noise spend.

    Args:
        noise_multiplier: standard deviation of the sum's noise relative to the clip norm; for correlated noise, of `z`.
        rounds: number of releases.
        delta: in `(0, 1)`.
        participation: assumption on who takes part in which rounds.
        mechanism: `"gaussian"` or `"correlated"`. The distributed mechanisms need more than a multiplier: give
            `Accountant.spent` a `Release` of theirs.
        bands: number of coefficients of correlated noise.

    Raises:
        PlanError: an argument is out of range, or the mechanism cannot be accounted for under the participation.
        MissingExtra: dp-accounting is not installed.
    """
    _checks.rounds(rounds)
    if mechanism in _checks.SHARED:
        raise PlanError(
            "mechanism",
            given=repr(mechanism),
            expected="one that a noise multiplier describes: 'gaussian' or 'correlated'",
            do="Use Accountant(participation, delta).spent({release: rounds}).",
        )
    return Accountant(participation, delta).spent({Release(mechanism, noise_multiplier, bands): rounds})


def calibrate(
    *,
    epsilon: float,
    delta: float,
    rounds: int,
    participation: AnyParticipation,
    release: Callable[[float], Release] | None = None,
    precision: float = 1e-4,
) -> float:
    """The smallest noise multiplier, to a relative precision and rounded up, at which `rounds` releases fit a budget.

    Args:
        epsilon: epsilon of the budget, finite.
        delta: delta of the budget, in `(0, 1)`.
        rounds: number of releases.
        participation: assumption on who takes part in which rounds.
        release: `release(z)` is the release with multiplier z; by default the plain Gaussian.
        precision: relative precision of the result.

    Returns:
        A multiplier z such that `rounds` releases `release(z)` fit; at least 0.01, however large the budget.

    Raises:
        PlanError: an argument is out of range, or no noise is enough. That can happen with distributed mechanisms and very
            small budgets; the error names the smallest epsilon found.
        MissingExtra: dp-accounting is not installed.
    """
    _checks.budget(epsilon)
    if math.isinf(epsilon):
        raise PlanError(
            "epsilon", given="inf", expected="a finite budget", do="Give the noise multiplier itself instead."
        )
    _checks.rounds(rounds)
    accountant = Accountant(participation, delta)
    guess = None
    if release is None and isinstance(participation, PoissonSampled | FixedSize):
        guess = rough(
            epsilon=epsilon, delta=delta, rounds=rounds, participation=participation, precision=precision / 2
        )
    make = release or (lambda multiplier: Release("gaussian", multiplier))
    return smallest_multiplier(
        lambda multiplier: accountant.spent({make(multiplier): rounds}).epsilon,
        epsilon * (1 + SLACK),
        low=LEAST_MULTIPLIER,
        high=MAXIMUM_MULTIPLIER,
        precision=precision,
        guess=guess,
    )


def rough(
    *, epsilon: float, delta: float, rounds: int, participation: PoissonSampled | FixedSize, precision: float
) -> float:
    """As `calibrate` for sampled Gaussians, in coarser steps: never less, hardly more, and several times faster.

    At the accountant's steps, computing a privacy loss distribution takes most of a second.

    Raises:
        PlanError: as `calibrate`.
        MissingExtra: dp-accounting is not installed.
    """
    Accountant(participation, delta)  # for its checks
    _checks.budget(epsilon)
    _checks.rounds(rounds)
    return smallest_multiplier(
        lambda multiplier: rough_epsilon(multiplier, rounds, participation, delta),
        epsilon,
        low=LEAST_MULTIPLIER,
        high=MAXIMUM_MULTIPLIER,
        precision=precision,
    )
