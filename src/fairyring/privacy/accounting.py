"""What releases spend together: epsilon at a fixed delta, and the least noise that stays within a budget."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fairyring.core.errors import PlanError
from fairyring.core.rounding import at_most
from fairyring.privacy import _checks
from fairyring.privacy._composing import compose, rough_epsilon
from fairyring.privacy._search import least
from fairyring.privacy.participation import (
    AnyParticipation,
    FixedSize,
    PoissonSampled,
    relation_in,
    sampling_in,
)
from fairyring.privacy.release import OfRound, Release

SLACK = 1e-9  # relative, of epsilon: a plan calibrated to a budget fits it whatever the last bit says
LEAST_MULTIPLIER = 0.01  # that `calibrate` returns, however large the budget
MAXIMUM_MULTIPLIER = 2.0**24  # that it tries
_REMEMBERED = 512


@dataclass(frozen=True)
class Spent:
    """A guarantee and all it rests on.

    Attributes:
        epsilon: of (epsilon, delta)-differential privacy.
        delta: of the same.
        unit: whose data the guarantee protects.
        relation: which two populations are neighbours.
        sampling: what is assumed of who takes part when.
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
    """Adds up releases under one participation, at one delta.

    Every epsilon is an upper bound. Its accountant depends on the participation and on the mechanisms:

    - `AtMost`, Gaussian: a device is in at most `k = min(times, ceil(rounds / separation))` rounds; the `k` with
      the least noise compose to one Gaussian, whose epsilon is exact (Balle and Wang 2018, Theorem 8).
    - `AtMost`, correlated: one Gaussian, of the multiplier over `correlated.sensitivity` of the rounds so far. `source`
      says what the floats that mix this noise add, which is not counted: a shift of 10^-6 standard deviations at most, for
      10^9 coordinates, 10^4 rounds and 12 bands.
    - `AtMost`, discrete Gaussian or Skellam: the `k` largest Rényi divergences at each order, added and converted.
    - `PoissonSampled`, Gaussian: dp-accounting's privacy loss distributions, in steps of 1e-4 (of 1e-3 below a
      multiplier of 0.5); Rényi divergences where those give less, below a multiplier of 0.2, and above an epsilon
      of 60.
    - `PoissonSampled`, discrete Gaussian or Skellam: Rényi divergences amplified by sampling.
    - `FixedSize`, Gaussian: the privacy profile of Zhu, Dong and Wang 2022, Proposition 30, for draws without
      replacement, as a privacy loss distribution, which dp-accounting composes; steps as above by half the multiplier,
      for a replaced device moves a sum by twice the clip. dp-accounting's Rényi divergences where those are left out.

    With sampling, the bound without it is taken where it is the smaller.

    What is counted are rounds, each with all that left it. A round that was run again after a crash released twice:
    whoever is in it is in both, however far apart a device's rounds are, and one draw of a sample is in both. Of training
    with noise in every local step a release is `steps` of them, each on a batch of its own, also where a round was run again.

    Args:
        participation: who may be in how many releases.
        delta: in `(0, 1)`.
        unit: whose data the participation is of; it decides the words of what is spent, and no number.

    Raises:
        PlanError: an argument is out of range; from `spent` and `fits`, a release cannot be accounted for under this
            participation, or is not described whole.
        MissingExtra: from `spent` and `fits`, dp-accounting is not installed.
    """

    def __init__(self, participation: AnyParticipation, delta: float, unit: str = "device") -> None:
        _checks.participation(participation)
        _checks.delta(delta)
        self.unit = unit
        self.participation, self.delta = participation, float(delta)
        self.computed = 0  # real computations so far: what `fits` is sparing with
        self._known: OrderedDict[tuple[frozenset[tuple[tuple[Release, ...], int]], int], Spent] = (
            OrderedDict()
        )
        self._bounds: dict[float, _Frontier] = {}

    def spent(self, counts: Mapping[OfRound, int], rounds: int | None = None) -> Spent:
        """What so many rounds of each kind spend together; of none, epsilon is 0.

        Args:
            counts: how many rounds released this: a `Release`, or a tuple of several that left the same round.
            rounds: how many lie from the first of them to the last, with those that released nothing. Without it as many
                as there are in `counts`.
        """
        wanted = _checks.counts(counts)
        return self._spent(_Asked(wanted, _checks.span(rounds, sum(wanted.values()))))

    def _spent(self, asked: "_Asked") -> Spent:
        wanted, span = asked
        key = frozenset(wanted.items()), span
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        kept = self.participation.aside if isinstance(self.participation, PoissonSampled) else 0.0
        epsilon, accountant = compose(wanted, self.participation, self.delta * (1 - kept), span)
        self.computed += bool(wanted)
        found = Spent(
            max(0.0, epsilon),
            self.delta,
            self.unit,
            relation_in(self.participation, self.unit),
            sampling_in(self.participation, span, self.unit),
            accountant,
        )
        self._known[key] = found
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def fits(self, counts: Mapping[OfRound, int], epsilon: float, rounds: int | None = None) -> bool:
        """Whether so many rounds spend at most `epsilon`, to a part in 10^9; as `spent`.

        Cheap to ask before every round: what is below counts known to fit, or above counts known not to, costs
        nothing, and while a run grows, an answer is first sought further ahead. Ask for the planned whole first, and
        every question within the plan is answered by that.
        """
        _checks.budget(epsilon)
        wanted = _checks.counts(counts)
        asked = _Asked(wanted, _checks.span(rounds, sum(wanted.values())))
        bounds = self._bounds.setdefault(float(epsilon), _Frontier())
        while (known := bounds.answer(asked)) is None:
            ahead = bounds.ahead(asked)
            found = self._spent(ahead).epsilon
            bounds.learn(ahead, found <= epsilon * (1 + SLACK))
        return known


class _Asked(NamedTuple):
    """Counts of rounds, and how many rounds they are spread over."""

    counts: dict[tuple[Release, ...], int]
    rounds: int

    def within(self, other: "_Asked") -> bool:
        """Whether the other has no fewer of each kind, over no fewer rounds."""
        fewer = all(n <= other.counts.get(kind, 0) for kind, n in self.counts.items())
        return fewer and self.rounds <= other.rounds

    def grown(self, share: float) -> "_Asked":
        """This and that share more of each kind, in as many rounds more."""
        counts = {kind: n + math.floor(n * share) for kind, n in self.counts.items()}
        return _Asked(counts, self.rounds + sum(counts.values()) - sum(self.counts.values()))


class _Frontier:
    """Counts known to fit and counts known not to, for one epsilon: more releases never spend less."""

    def __init__(self) -> None:
        self.fitting: list[_Asked] = []
        self.spending: list[_Asked] = []
        self.reach = 1.0  # how far ahead to look, as a share of the counts asked for

    def answer(self, asked: _Asked) -> bool | None:
        if not asked.counts or any(asked.within(known) for known in self.fitting):
            return True
        return False if any(known.within(asked) for known in self.spending) else None

    def ahead(self, asked: _Asked) -> _Asked:
        """What to compute: what was asked, or more of each where a run grows and its next questions can be spared."""
        counts, rounds = asked
        if not any(self.answer(_Asked(counts | {kind: n - 1}, rounds - 1)) for kind, n in counts.items()):
            return asked
        while True:
            seen = asked.grown(self.reach)
            if seen == asked or self.answer(seen) is None:
                return seen
            self.reach /= 2

    def learn(self, asked: _Asked, fits: bool) -> None:
        if fits:
            self.fitting = [known for known in self.fitting if not known.within(asked)] + [asked]
        else:
            self.spending = [known for known in self.spending if not asked.within(known)] + [asked]
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
        noise_multiplier: standard deviation of the sum's noise over the clip norm; of correlated noise, of `z`.
        rounds: how many releases.
        delta: in `(0, 1)`.
        participation: who may be in how many of them.
        mechanism: `"gaussian"` or `"correlated"`. The distributed mechanisms need more than a multiplier: give
            `Accountant.spent` a `Release` of theirs.
        bands: of correlated noise.

    Raises:
        PlanError: an argument is out of range, or the mechanism does not go with the participation.
        MissingExtra: dp-accounting is not installed.
    """
    _checks.rounds(rounds)
    if mechanism in _checks.SHARED:
        raise PlanError(
            "mechanism",
            given=repr(mechanism),
            expected="one that a noise multiplier describes: 'gaussian' or 'correlated'",
            do="Ask Accountant(participation, delta).spent({release: rounds}).",
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
    """The least noise multiplier, to a precision and rounded up, at which `rounds` releases fit a budget.

    Args:
        epsilon: of the budget, finite.
        delta: of the budget, in `(0, 1)`.
        rounds: how many releases.
        participation: who may be in how many of them.
        release: the release with a given multiplier; the plain Gaussian if left out.
        precision: relative, of the result.

    Returns:
        A multiplier z of which `rounds` releases, `release(z)` each, fit. At least 0.01, however large the budget.

    Raises:
        PlanError: an argument is out of range; or no noise is enough, which the distributed mechanisms and very small
            budgets have: the error names the smallest epsilon seen.
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
    return least(
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
    """As `calibrate` for sampled Gaussians, by coarser steps: never less, hardly more, and several times faster.

    Privacy loss distributions take most of a second at the steps they are accounted in.

    Raises:
        PlanError: as `calibrate`.
        MissingExtra: dp-accounting is not installed.
    """
    Accountant(participation, delta)  # for its refusals
    _checks.budget(epsilon)
    _checks.rounds(rounds)
    return least(
        lambda multiplier: rough_epsilon(multiplier, rounds, participation, delta),
        epsilon,
        low=LEAST_MULTIPLIER,
        high=MAXIMUM_MULTIPLIER,
        precision=precision,
    )
