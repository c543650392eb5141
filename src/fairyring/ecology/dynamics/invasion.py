"""Invasion fitness over two traits: the growth of a rare mutant with more emission or response among residents.

The traits must be adjustable, so the residents here do not learn. Each is a hand-written table of preferences
(`policies.tables`) that climbs towards food, modified by two numbers. `emission` is added to the log odds of emitting, `response`
to the log odds of tumbling when the signal is sensed. The results are about this family of tables, not about evolved
populations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.ecology.dynamics.curl import InvasionCurl, invasion_curl
from fairyring.ecology.lab import Coculture, Mix, Population, cocultures
from fairyring.ecology.world import CHANGE, LEVEL, SIGNAL, World2

# P(tumble) while food is falling, flat and rising, as in E. coli: it climbs. It tumbles more where food is plenty, since a
# tumble stands still for a step.
_TUMBLE = (0.5, 0.1, 0.02)
_DWELL = 1.0  # log odds
# Log odds of emitting where food is scarce, some and plenty, at emission 0, so that the signal indicates food.
_EMIT = (-4.0, -2.0, 0.0)
_SETTLED = 0.1  # fraction of the steps before growth is measured, in which all live on the initial food


@dataclass(frozen=True, eq=False)
class InvasionFitness:
    """Invasion fitness between neighbours on a grid of residents.

    Attributes:
        emission: `[n]`, of the residents.
        response: `[m]`, of the residents.
        gradients: `[replicates, n, m, 2]`, per step and unit of emission and of response.
        growth: `[replicates, n, m, 4]`, of the log ratio of mutants to residents, per step. Mutants are the neighbours with
            more and with less emission, then those with more and with less response. NaN if all died within a tenth of the
            steps.
        population: `[n, m]`, mean number of bacteria over the last third, in the jars of that resident.
        gone: `[n, m]`, share of the jars of that resident where mutants or residents were extinct at the end.
        curl: the part of mutual invasion that no landscape explains, with its null.
    """

    emission: npt.NDArray[np.float64]
    response: npt.NDArray[np.float64]
    gradients: npt.NDArray[np.float64]
    growth: npt.NDArray[np.float64]
    population: npt.NDArray[np.float64]
    gone: npt.NDArray[np.float64]
    curl: InvasionCurl


def trait_table(settings: World2, emission: float, response: float) -> np.ndarray:
    """The table `[states * actions]` (float32) of a bacterium with two traits, as a genome of `tables()`.

    P(tumble) is .5, .1, .02 while food is falling, flat and rising; its log odds are higher by 1 where food is plenty, and by
    `response` when the signal is sensed. The log odds of emitting are -4, -2, 0 where food is scarce, some and plenty, and
    higher by `emission` everywhere. Tumbling and emitting are independent. At traits of plus or minus 5 the behaviour is
    nearly deterministic.

    Args:
        settings: a World2 whose policy is `tables()`, with the standard senses.
        emission, response: log odds.

    Raises:
        EcologyError: other settings.
    """
    _refuse(settings)
    table = np.zeros((3, 3, 2, 4))
    tumble = np.log(np.array(_TUMBLE) / (1 - np.array(_TUMBLE)))
    for level in range(3):
        for change in range(3):
            for sensed in range(2):
                turning = tumble[change] + _DWELL * (level == 2) + response * sensed
                emitting = _EMIT[level] + emission
                table[level, change, sensed] = [0, turning, emitting, turning + emitting]
    return (table.reshape(-1) / settings.beta).astype(np.float32)


def invasion_fitness(
    settings: World2,
    emission: Sequence[float],
    response: Sequence[float],
    *,
    rarity: float = 0.1,
    founders: int = 400,
    steps: int = 1000,
    replicates: int = 20,
    seed: int = 0,
    resamples: int = 1999,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> InvasionFitness:
    """Invasion fitness between neighbours on a grid of residents, measured in co-culture.

    At each point four mutants, with one grid step more and less of each trait, are introduced among the residents in separate
    jars. So of neighbours x and y each has been the mutant among the other, and half the difference of the two results is the
    work of selection from x to y that `invasion_curl` takes.

    Fitness is the growth of ln(mutants / residents) per step, from a tenth of the steps to the end, or to the extinction of the
    jar: the slope between the two ends. A gradient is the difference of the two mutants of a trait over twice the grid step. In
    both, the effect of rarity on every mutant (and the half added to counts) cancels.

    Mutants are not infinitely rare but have the share `rarity`, so that drift does not hide the effect. An extinct mutant cannot
    decline further. If mutants are extinct in most jars, there are too many steps: growth is distorted, and even a landscape has
    curl.

    Args:
        settings: a World2 whose policy is `tables()`, with the standard senses.
        emission, response: of the residents, increasing in equal steps; 2 or more each.
        rarity: share of mutants among the founders.
        founders, steps: of a jar.
        replicates: jars for each mutant.
        seed: of all randomness.
        resamples: for the null.
        cores: how many to use; all by default.
        progress: called with steps done and steps to do.

    Raises:
        EcologyError: other settings, an invalid rarity, a grid with unequal steps, or a resident with fewer than two surviving
            jars.
    """
    _refuse(settings)
    if not 0 < rarity < 1:
        raise EcologyError(
            "rarity", given=rarity, expected="a share between 0 and 1", do="Use .1 of the founders."
        )
    along, across = _step("emission", emission), _step("response", response)
    moves = ((along, 0.0), (-along, 0.0), (0.0, across), (0.0, -across))
    mixes = [
        Mix(
            f"{e:g},{q:g} {de:+g},{dq:+g}",
            (_clones(settings, e + de, q + dq), _clones(settings, e, q)),
            (rarity, 1 - rarity),
        )
        for e in emission
        for q in response
        for de, dq in moves
    ]
    every = max(1, steps // 20)
    outcomes = cocultures(
        settings,
        mixes,
        founders=founders,
        steps=steps - steps % every,
        replicates=replicates,
        seed=seed,
        every=every,
        cores=cores,
        progress=progress,
    )
    shape = (len(emission), len(response), len(moves))
    growth = np.stack([_growth(outcome) for outcome in outcomes], 1).reshape(replicates, *shape)
    complete = np.isfinite(growth).all((1, 2, 3))
    if complete.sum() < 2:
        raise EcologyError(
            "replicates",
            given=f"{int(complete.sum())} of {replicates} in which somebody survived with every resident",
            expected="2 or more",
            do="Increase the food, or choose residents that can survive.",
        )
    gradients = np.stack([growth[..., 0] - growth[..., 1], growth[..., 2] - growth[..., 3]], -1)
    gradients /= (2 * along, 2 * across)
    gone = np.array([(outcome.counts[:, :, -1] == 0).any(1).mean() for outcome in outcomes])
    gone = gone.reshape(shape).mean(2)
    population = np.array([outcome.yields().sum(1).mean() for outcome in outcomes]).reshape(shape).mean(2)
    e, q = np.asarray(emission, float), np.asarray(response, float)
    curl = invasion_curl(*works(growth[complete]), e, q, seed=seed, resamples=resamples)
    return InvasionFitness(e, q, gradients, growth, population, gone, curl)


def works(growth: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The work of selection from each resident to the next, as `invasion_curl` takes it.

    Args:
        growth: `[..., n, m, 4]`, as in `InvasionFitness`. Mutants beyond the edge of the grid are not used.

    Returns:
        `[..., n - 1, m]` along emission and `[..., n, m - 1]` along response: half the difference between the growth of the
        next resident among this one and that of this one among the next.
    """
    along_emission = growth[..., :-1, :, 0] - growth[..., 1:, :, 1]
    along_response = growth[..., :, :-1, 2] - growth[..., :, 1:, 3]
    return along_emission / 2, along_response / 2


def _step(name: str, grid: Sequence[float]) -> float:
    """The distance between neighbours. It must be the same everywhere, since neighbours are each other's mutants."""
    steps = np.diff(np.asarray(grid, float))
    if not len(steps) or not steps[0] > 0 or not np.allclose(steps, steps[0]):
        raise EcologyError(
            name, given=list(grid), expected="2 or more, increasing by equal steps", do="Space them evenly."
        )
    return float(steps[0])


def _clones(settings: World2, emission: float, response: float) -> Population:
    return Population(f"{emission:g},{response:g}", trait_table(settings, emission, response)[None])


def _growth(outcome: Coculture) -> np.ndarray:
    """Growth of the log odds of the first label per step, `[replicates]`, until the last count with survivors."""
    first = outcome.index(round(_SETTLED * int(outcome.steps[-1])))
    growth = []
    for replicate, alive in enumerate(outcome.population > 0):
        last = int(np.flatnonzero(alive)[-1])
        span = int(outcome.steps[last] - outcome.steps[first])
        rise = outcome.log_odds(last)[replicate] - outcome.log_odds(first)[replicate] if span > 0 else np.nan
        growth.append(rise / max(span, 1))
    return np.array(growth)


def _refuse(settings: World2) -> None:
    standard = isinstance(settings, World2) and settings.senses == (LEVEL, CHANGE, SIGNAL)
    if not standard or settings.policy.name != "tables" or settings.beta <= 0:
        raise EcologyError(
            "settings",
            given=f"{type(settings).__name__} with policy {settings.policy.name!r}",
            expected="a World2 with the standard senses, policy=tables() and a beta above 0",
            do="World2(policy=tables()).",
        )
