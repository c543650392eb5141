"""Whether chemotaxis evolved: what is measured, what it is held against, and how often that would err.

A population that merely breeds where food is looks attracted, so nothing is decided on a living world. What is judged
here comes from an assay: frozen genomes in fixed fields, without births, deaths or uptake, of evolved worlds and of
control worlds whose heredity is scrambled. Every number is recorded beside its threshold.
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
_PERCENTILE = 0.99  # of the controls, where there are enough of them to know it
_LEVEL = 0.99  # of the lower bounds


@dataclass(frozen=True, eq=False)
class WorldAssay:
    """One world in the lab: a number for each individual of it, `[n]` each.

    Attributes:
        index: chemotactic index: the individual's mean food over the arena's mean food. 1 is blind.
        contrast: P(tumble | food falling) - P(tumble | food rising), in `[-1, 1]`. NaN for an individual that never rose
            or never fell, which counts as a contrast of 0: nothing was shown.
        index_without_sensor: `index` of the same genomes with the sensor knocked out.

    Raises:
        EcologyError, StatisticsError: the three differ in length, are empty, or hold what is no such number.
    """

    index: npt.NDArray[np.float64]
    contrast: npt.NDArray[np.float64]
    index_without_sensor: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        found = {
            "index": samples.counts("index", self.index, axes=1),
            "contrast": samples.array("contrast", self.contrast, axes=1, missing=0.0),
            "index_without_sensor": samples.counts("index_without_sensor", self.index_without_sensor, axes=1),
        }
        sizes = [len(values) for values in found.values()]
        if len(set(sizes)) > 1 or not sizes[0]:
            raise EcologyError(
                "individuals of an assay",
                given=f"{sizes} of {list(found)}",
                expected="the same individuals, at least one",
                do="Assay every individual thrice; a world without survivors is extinct, not assayed.",
            )
        if np.abs(found["contrast"]).max() > 1.0:
            raise EcologyError(
                "contrast",
                given=f"{np.abs(found['contrast']).max():g}",
                expected="a difference of two probabilities",
                do="Divide tumbles by the steps in which food fell, and by those in which it rose.",
            )
        for name, values in found.items():
            object.__setattr__(self, name, values)

    @property
    def mean_index(self) -> float:
        """The world's one number."""
        return float(self.index.mean())


def asked_of(lab: Assay) -> WorldAssay:
    """What a decision asks of a world's assay."""
    return WorldAssay(index=lab.index, contrast=lab.contrast, index_without_sensor=lab.index_without_sensor)


@dataclass(frozen=True)
class Criterion:
    """One number beside its threshold.

    Attributes:
        name: what is asked.
        estimate: what was measured.
        compared: the number held against the thresholds: the estimate itself, or its lower bound.
        least, most: the thresholds; infinite where there is none.
        strict: whether `compared` must be inside of the thresholds, or may be on them.
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
    """A verdict, with every number it rests on.

    Attributes:
        question: what was decided.
        criteria: all of which must be met.
        units: individuals of the world, or worlds of the configuration.
        controls: control worlds.
        stated_error: chance at most of a yes where nothing but the controls' heredity is at work, over the draw of the
            controls too.
        decidable: whether any outcome could have been a yes; False where there are too few worlds for the p that is asked.
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
        """One sentence: what failed, or what was passed."""
        if not self.decidable:
            return (
                f"Undecided: {self.units} beside {self.controls} are too few for any outcome to be a yes to "
                f"{self.question}."
            )
        failed = [str(criterion) for criterion in self.criteria if not criterion.met]
        if failed:
            return f"No: {self.question} fails at {', '.join(failed)}."
        return f"Yes: {self.question} meets {', '.join(map(str, self.criteria))}."


@dataclass(frozen=True)
class ErrorRate:
    """How many controls are taken for chemotactic when each is judged by the others.

    Of fewer than 99 controls one at most has an index above all the others, so one at most can pass: the count shows only
    whether the other criteria stop that one. What keeps the rate down is the rank, and the rate that is promised is `stated`.

    Attributes:
        passed: controls that passed, of `worlds`.
        rate: their share.
        upper: Clopper-Pearson upper bound of the rate. Worlds judged by each other are not independent; with
            fewer than 100 the bound is good all the same, for the true rate is `stated` at most, which is less.
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
    """The limit that scrambled worlds set to the index, and the chance that one more such world's mean is above it.

    Sixteen worlds have no 99th percentile: an interpolated one lies below their largest, and one more scrambled world
    is above it seven times in a hundred, not once. So the limit is an order statistic. Of n controls and one more world,
    every rank of the one is equally likely, whatever the distribution: it exceeds the k-th smallest with chance
    `(n + 1 - k) / (n + 1)` at most. k is the least with which that is 1 % at most, `ceil(.99 (n + 1))`; where there is
    none, below 99 controls, it is the largest, n, and the chance is `1 / (n + 1)`: 1/17 for 16 worlds (the bound of
    conformal prediction; Vovk, Gammerman & Shafer 2005, section 2.2).

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

    Four criteria: the 99 % lower bound of the mean index (over individuals; BCa) is above `control_limit` of the
    controls' world means, and above 1.25; the 99 % lower bound of the mean contrast is above .1; and the mean index of
    the same genomes without the sensor is within 1 +- .1.

    The bounds over individuals only account for who was assayed. What protects from a world's luck is its rank among
    control worlds: a world of their kind has a mean above their limit with the chance `stated_error` at most, and the
    other criteria only lower it.

    Args:
        assay: the world in question.
        controls: assays of 3 or more worlds with scrambled heredity, run and assayed in the same way; this world is
            none of them.
        seed: of the bootstraps.
        resamples: of each.

    Raises:
        EcologyError, StatisticsError: too few controls, the world itself among them, or a seed or number of resamples that is none.
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
    """Whether chemotaxis evolves in this configuration: its worlds' mean indices above those of the controls.

    Exact one-sided Mann-Whitney p below .001 and Cliff's delta at least .8; one number a world, however many live in it.
    Seven worlds a side are the fewest that can reach such a p (1/3432).

    Args:
        evolved_worlds: one or more worlds of the configuration; all that were run and not those that came out well.
        control_worlds: as many, with scrambled heredity.
        seed: of the permutations, drawn only beyond 160 worlds.

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
    """How many scrambled worlds `chemotaxis_in_world` takes for chemotactic, each judged by all the others.

    Args:
        controls: 4 or more worlds with scrambled heredity.
        confidence: of the upper bound.
        seed: of the bootstraps.
        resamples: of each.

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
