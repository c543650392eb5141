"""The decision whether chemotaxis evolved: measurements, thresholds, and error rates.

A population that merely breeds where the food is looks attracted to it, so nothing is decided from a living world. The decision
is made from assays: frozen genomes in static fields, without births, deaths or uptake, from evolved worlds and from control
worlds with scrambled heredity. Every number is recorded with its threshold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.ecology.analysis.rewards import RewardRow, reward_table
from fairyring.ecology.analysis.viability import viability
from fairyring.ecology.lab import Assay
from fairyring.statistics import bootstrap_lower_bound, clopper_pearson, mann_whitney, samples

__all__ = [
    "Criterion",
    "Decision",
    "ErrorRate",
    "RewardRow",
    "WorldAssay",
    "chemotaxis_in_configuration",
    "chemotaxis_in_world",
    "control_limit",
    "error_rate",
    "reward_table",
    "viability",
]

LEAST_INDEX = 1.25
LEAST_CONTRAST = 0.1
BLIND_INDEX = (0.9, 1.1)
LARGEST_P = 0.001
LEAST_DELTA = 0.8
_PERCENTILE = 0.99  # of the controls, if there are enough of them
_LEVEL = 0.99  # of the lower bounds


@dataclass(frozen=True, eq=False)
class WorldAssay:
    """The assay of one world, as far as the decision uses it: a number for each individual, `[n]` each.

    Attributes:
        index: chemotactic index: mean food of the individual over mean food of the arena; 1 for a blind one.
        contrast: P(tumble | food falling) - P(tumble | food rising), in `[-1, 1]`. NaN, for an individual that was never in
            one of the two situations, counts as 0.
        index_without_sensor: `index` of the same genomes without the sensor.

    Raises:
        EcologyError, StatisticsError: the three differ in length, are empty, or hold impossible values.
    """

    index: npt.NDArray[np.float64]
    contrast: npt.NDArray[np.float64]
    index_without_sensor: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        checked = {
            "index": samples.counts("index", self.index, axes=1),
            "contrast": samples.array("contrast", self.contrast, axes=1, missing=0.0),
            "index_without_sensor": samples.counts("index_without_sensor", self.index_without_sensor, axes=1),
        }
        sizes = [len(values) for values in checked.values()]
        if len(set(sizes)) > 1 or not sizes[0]:
            raise EcologyError(
                "individuals of an assay",
                given=f"{sizes} of {list(checked)}",
                expected="the same individuals, at least one",
                do="Measure all three for every individual; an extinct world has no assay.",
            )
        if np.abs(checked["contrast"]).max() > 1.0:
            raise EcologyError(
                "contrast",
                given=f"{np.abs(checked['contrast']).max():g}",
                expected="a difference of two probabilities",
                do="Divide tumbles by the steps in which food fell, and by those in which it rose.",
            )
        for name, values in checked.items():
            object.__setattr__(self, name, values)

    @property
    def mean_index(self) -> float:
        """The one number that stands for the world."""
        return float(self.index.mean())


def asked_of(lab: Assay) -> WorldAssay:
    """The part of an assay that the decision uses."""
    return WorldAssay(index=lab.index, contrast=lab.contrast, index_without_sensor=lab.index_without_sensor)


@dataclass(frozen=True)
class Criterion:
    """One number with its threshold.

    Attributes:
        name: of the criterion.
        estimate: the measured value.
        compared: the number compared with the thresholds: the estimate itself, or its lower bound.
        least, most: the thresholds; infinite if there is none.
        strict: whether `compared` must be strictly between the thresholds.
        met: whether it is.
    """

    name: str
    estimate: float
    compared: float
    least: float
    most: float
    strict: bool

    @property
    def met(self) -> bool:
        if self.strict:
            return self.least < self.compared < self.most
        return self.least <= self.compared <= self.most

    def __str__(self) -> str:
        above, below = (">", "<") if self.strict else (">=", "<=")
        bounds = [f"{above} {self.least:.4g}"] * math.isfinite(self.least)
        bounds += [f"{below} {self.most:.4g}"] * math.isfinite(self.most)
        return f"{self.name} {self.compared:.4g} ({' and '.join(bounds)})"


@dataclass(frozen=True)
class Decision:
    """A verdict with all the numbers that it rests on.

    Attributes:
        question: what was decided.
        criteria: all of which must be met for a yes.
        units: number of individuals of the world, or of worlds of the configuration.
        controls: number of control worlds.
        stated_error: upper bound of the probability of a yes for a world like the controls, over the draw of the controls too.
        decidable: whether any outcome could have been a yes; False if there are too few worlds for the required p.
    """

    question: str
    criteria: tuple[Criterion, ...]
    units: int
    controls: int
    stated_error: float
    decidable: bool = True

    @property
    def verdict(self) -> bool:
        """Whether every criterion is met."""
        return all(criterion.met for criterion in self.criteria)

    @property
    def why(self) -> str:
        """One sentence: the criteria that failed, or all that were met."""
        if not self.decidable:
            return (
                f"Undecided: {self.units} against {self.controls} are too few for any outcome to be a yes to "
                f"{self.question}."
            )
        failed = [str(criterion) for criterion in self.criteria if not criterion.met]
        if failed:
            return f"No: {self.question} fails at {', '.join(failed)}."
        return f"Yes: {self.question} meets {', '.join(map(str, self.criteria))}."


@dataclass(frozen=True)
class ErrorRate:
    """How many controls pass as chemotactic when each is judged against the others.

    Of fewer than 99 controls at most one has an index above all others, so at most one can pass. The count only shows whether
    the other criteria stop that one. The rank limits the error rate, and the rate that is promised is `stated`.

    Attributes:
        passed: number of controls that passed, of `worlds`.
        rate: their share.
        upper: Clopper-Pearson upper bound of the rate. Worlds that are judged against each other are not independent. With
            fewer than 100 the bound is valid nevertheless, since the true rate is at most `stated`, which is less.
        confidence: of the bound.
        stated: what the procedure promises with one control fewer.
    """

    passed: int
    worlds: int
    rate: float
    upper: float
    confidence: float
    stated: float


def control_limit(controls: Sequence[WorldAssay]) -> tuple[float, float]:
    """The limit that scrambled worlds set for the index, and the probability that another such world exceeds it.

    Sixteen worlds have no 99th percentile. An interpolated one lies below the largest, and another scrambled world would
    exceed it in 7 % of the cases, not in 1 %. So the limit is an order statistic. Among n controls and one more world every
    rank of the latter is equally likely, whatever the distribution, so it exceeds the k-th smallest control with probability
    at most `(n + 1 - k) / (n + 1)`. k is the smallest for which this is at most 1 %, `ceil(.99 (n + 1))`. With fewer than 99
    controls there is no such k; then the limit is the largest control, and the probability is `1 / (n + 1)`: 1/17 for 16
    worlds. This is the bound of conformal prediction (Vovk, Gammerman & Shafer 2005, section 2.2).

    Args:
        controls: 3 or more worlds.

    Raises:
        EcologyError, StatisticsError: fewer.
    """
    means = np.sort(samples.sample("controls", [world.mean_index for world in controls], least=3))
    rank = min(len(means), math.ceil(_PERCENTILE * (len(means) + 1) - 1e-9))
    return float(means[rank - 1]), (len(means) + 1 - rank) / (len(means) + 1)


def chemotaxis_in_world(
    assay: WorldAssay, controls: Sequence[WorldAssay], *, seed: int = 0, resamples: int = 4999
) -> Decision:
    """Whether chemotaxis evolved in this world.

    There are four criteria. The 99 % lower bound of the mean index (over individuals; BCa) is above `control_limit` of the
    controls' world means, and above 1.25. The 99 % lower bound of the mean contrast is above .1. The mean index of the same
    genomes without the sensor is within 1 +- .1.

    The bounds over individuals only account for the choice of individuals. Chance at the level of worlds is controlled by the
    rank among control worlds: a world like them has a mean above their limit with probability at most `stated_error`, and the
    other criteria only reduce it.

    Args:
        assay: of the world in question.
        controls: assays of 3 or more other worlds with scrambled heredity, run and assayed in the same way.
        seed: of the bootstraps.
        resamples: of each bootstrap.

    Raises:
        EcologyError, StatisticsError: too few controls, the world itself among them, or an invalid seed or number of resamples.
    """
    if any(world is assay for world in controls):
        raise EcologyError(
            "controls", given="the world in question among them", expected="other worlds", do="Leave it out."
        )
    limit, error = control_limit(controls)
    index = bootstrap_lower_bound(assay.index, _LEVEL, seed, resamples=resamples)
    contrast = bootstrap_lower_bound(assay.contrast, _LEVEL, seed, resamples=resamples)
    blind = float(assay.index_without_sensor.mean())
    low = f"{_LEVEL:.0%} lower bound of the"
    criteria = (
        Criterion(f"{low} index beside the controls", index.estimate, index.low, limit, math.inf, True),
        Criterion(f"{low} index", index.estimate, index.low, LEAST_INDEX, math.inf, True),
        Criterion(f"{low} tumble contrast", contrast.estimate, contrast.low, LEAST_CONTRAST, math.inf, True),
        Criterion("index without the sensor", blind, blind, *BLIND_INDEX, False),
    )
    return Decision("chemotaxis in this world", criteria, len(assay.index), len(controls), error)


def chemotaxis_in_configuration(
    evolved_worlds: Sequence[WorldAssay], control_worlds: Sequence[WorldAssay], *, seed: int = 0
) -> Decision:
    """Whether chemotaxis evolves in this configuration: whether mean indices of its worlds are above those of controls.

    It requires an exact one-sided Mann-Whitney p below .001 and a Cliff's delta of at least .8, with one number for each world.
    At least seven worlds on each side are needed for such a p (1/3432).

    Args:
        evolved_worlds: one or more worlds of the configuration; all that were run, not a selection.
        control_worlds: worlds with scrambled heredity.
        seed: of the permutations, which are drawn only beyond 160 worlds.

    Raises:
        EcologyError, StatisticsError: no worlds.
    """
    test = mann_whitney(
        [world.mean_index for world in evolved_worlds],
        [world.mean_index for world in control_worlds],
        seed=seed,
    )
    name = "exact one-sided p" if test.method != "permutation" else "permutation p"
    criteria = (
        Criterion(name, test.p, test.p, -math.inf, LARGEST_P, True),
        Criterion("Cliff's delta", test.delta, test.delta, LEAST_DELTA, math.inf, False),
    )
    return Decision(
        "chemotaxis in this configuration",
        criteria,
        len(evolved_worlds),
        len(control_worlds),
        LARGEST_P,
        test.least_p < LARGEST_P,
    )


def error_rate(
    controls: Sequence[WorldAssay], *, confidence: float = 0.95, seed: int = 0, resamples: int = 4999
) -> ErrorRate:
    """How many scrambled worlds pass `chemotaxis_in_world` when each is judged against all others.

    Args:
        controls: 4 or more worlds with scrambled heredity.
        confidence: of the upper bound.
        seed: of the bootstraps.
        resamples: of each bootstrap.

    Raises:
        EcologyError, StatisticsError: fewer controls.
    """
    controls = list(controls)
    if len(controls) < 4:
        raise EcologyError(
            "controls", given=len(controls), expected="4 or more", do="Run more scrambled worlds."
        )
    judged = [
        chemotaxis_in_world(world, controls[:i] + controls[i + 1 :], seed=seed, resamples=resamples)
        for i, world in enumerate(controls)
    ]
    passed = sum(decision.verdict for decision in judged)
    upper = clopper_pearson(passed, len(controls), confidence, side="upper")[1]
    stated = max(decision.stated_error for decision in judged)
    return ErrorRate(passed, len(controls), passed / len(controls), upper, confidence, stated)
