"""Invasion fitness over two traits: how well a rare mutant that emits more, or answers the signal more, does among residents.

The traits must be something one can set, so residents here learn nothing: each is a table of preferences (`policies.tables`) that
climbs food, written by hand, and two numbers bend it. `emission` is added to the log odds of emitting, `response` to the log
odds of tumbling where the signal is sensed. What follows is of this family of tables and of no evolved population.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.ecology.dynamics.curl import InvasionCurl, invasion_curl
from fairyring.ecology.lab import Jar, Mix, Population, jars
from fairyring.ecology.world import CHANGE, LEVEL, SIGNAL, World2

# P(tumble) while food is falling, flat and rising: E. coli's way round, and it climbs. More where food is plenty, since
# a tumble stands still for a step and so dwells there.
_TUMBLE = (0.5, 0.1, 0.02)
_DWELL = 1.0  # log odds
# Log odds of emitting where food is scarce, some and plenty, at emission 0: so the signal says where food is.
_EMIT = (-4.0, -2.0, 0.0)
_SETTLED = 0.1  # of the steps, before growth is measured: until then all live on what was there at the start


@dataclass(frozen=True, eq=False)
class InvasionFitness:
    """Invasion fitness between neighbours on a grid of residents.

    Attributes:
        emission: `[n]`, of the residents.
        response: `[m]`.
        gradients: `[replicates, n, m, 2]`, a step and unit of emission and of response.
        growth: `[replicates, n, m, 4]`, of the log ratio of mutants to residents, a step; mutants are the neighbours with
            more and less emission, with more and less response. NaN where all died within a tenth of the steps.
        population: `[n, m]`, mean number of inhabitants over the last third, in the jars of that resident.
        gone: `[n, m]`, share of that resident's jars where mutants or residents were gone at the end.
        curl: what no landscape explains of how neighbours invade each other, with its null.
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

    P(tumble) is .5, .1, .02 while food is falling, flat and rising, its log odds 1 higher where food is plenty and
    `response` higher where the signal is sensed. Log odds of emitting are -4, -2, 0 where food is scarce, some and
    plenty, and `emission` higher everywhere. The two are chosen independently of each other. At a trait of plus or minus
    5 they are all but certain.

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
    """Invasion fitness between neighbours on a grid of residents, measured in jars.

    At each point four mutants, a step of the grid more and less in each trait, are put among the residents, each in jars
    of its own: so neighbours x and y have each been the mutant among the other, and half the difference of the two
    is the work of selection from x to y that `invasion_curl` takes. Fitness is the growth of ln(mutants / residents) a step,
    from a tenth of the steps on: the slope of its two ends; where all die out, until then. A gradient is the difference of
    the two mutants of a trait over twice the grid's step. In both, what rarity does to every mutant alike (and the half
    that is added to counts) cancels. Mutants are not few in the limit: they are a share `rarity`, so that drift leaves
    something to see. Who has died out falls no further, so where mutants have gone in most jars growth is bent, and
    steps are too many: even a landscape then has curl.

    Args:
        settings: a World2 whose policy is `tables()`, with the standard senses.
        emission, response: of the residents, increasing by equal steps; 2 or more each.
        rarity: share of mutants among the founders.
        founders, steps: of a jar.
        replicates: jars for each mutant.
        seed: of all chance.
        resamples: of the null.
        cores: how many to use; all by default.
        progress: called with steps made and steps to make.

    Raises:
        EcologyError: other settings, a rarity that is none, a grid whose steps are not equal, or a resident with whom
            fewer than two jars lived through.
    """
    _refuse(settings)
    if not 0 < rarity < 1:
        raise EcologyError(
            "rarity", given=rarity, expected="a share between 0 and 1", do="Take .1 of the founders."
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
    made = jars(
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
    growth = np.stack([_growth(jar) for jar in made], 1).reshape(replicates, *shape)
    lasting = np.isfinite(growth).all((1, 2, 3))
    if lasting.sum() < 2:
        raise EcologyError(
            "replicates",
            given=f"{int(lasting.sum())} of {replicates} in which somebody lived on with every resident",
            expected="2 or more",
            do="Give them more food, or choose residents who can live.",
        )
    gradients = np.stack([growth[..., 0] - growth[..., 1], growth[..., 2] - growth[..., 3]], -1)
    gradients /= (2 * along, 2 * across)
    gone = np.array([(jar.counts[:, :, -1] == 0).any(1).mean() for jar in made]).reshape(shape).mean(2)
    population = np.array([jar.yields().sum(1).mean() for jar in made]).reshape(shape).mean(2)
    e, q = np.asarray(emission, float), np.asarray(response, float)
    curl = invasion_curl(*works(growth[lasting]), e, q, seed=seed, resamples=resamples)
    return InvasionFitness(e, q, gradients, growth, population, gone, curl)


def works(growth: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Works of selection from each resident to the next, as `invasion_curl` takes them.

    Args:
        growth: `[..., n, m, 4]`, as of `InvasionFitness`. Mutants beyond the grid's edge take no part.

    Returns:
        `[..., n - 1, m]` along emission and `[..., n, m - 1]` along response: half of what the next resident gains among
        this one, less what this one gains among the next.
    """
    along_emission = growth[..., :-1, :, 0] - growth[..., 1:, :, 1]
    along_response = growth[..., :, :-1, 2] - growth[..., :, 1:, 3]
    return along_emission / 2, along_response / 2


def _step(name: str, grid: Sequence[float]) -> float:
    """Between neighbours of a grid; they are each other's mutants, so it is one and the same."""
    steps = np.diff(np.asarray(grid, float))
    if not len(steps) or not steps[0] > 0 or not np.allclose(steps, steps[0]):
        raise EcologyError(
            name, given=list(grid), expected="2 or more, increasing by equal steps", do="Space them evenly."
        )
    return float(steps[0])


def _clones(settings: World2, emission: float, response: float) -> Population:
    return Population(f"{emission:g},{response:g}", trait_table(settings, emission, response)[None])


def _growth(jar: Jar) -> np.ndarray:
    """Growth of the first label's log odds a step, `[replicates]`, until the last time that anybody lived."""
    first = jar.index(round(_SETTLED * int(jar.steps[-1])))
    lived = jar.population > 0
    grown = []
    for replicate, there in enumerate(lived):
        last = int(np.flatnonzero(there)[-1])
        span = int(jar.steps[last] - jar.steps[first])
        rise = jar.log_odds(last)[replicate] - jar.log_odds(first)[replicate] if span > 0 else np.nan
        grown.append(rise / max(span, 1))
    return np.array(grown)


def _refuse(settings: World2) -> None:
    standard = isinstance(settings, World2) and settings.senses == (LEVEL, CHANGE, SIGNAL)
    if not standard or settings.policy.name != "tables" or settings.beta <= 0:
        raise EcologyError(
            "settings",
            given=f"{type(settings).__name__} with policy {settings.policy.name!r}",
            expected="a World2 with the standard senses, policy=tables() and a beta above 0",
            do="World2(policy=tables()).",
        )
