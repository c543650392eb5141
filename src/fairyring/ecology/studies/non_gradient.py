"""The study of non-gradient dynamics: four observations that gradient ascent would rule out, each against its null.

In order of strength: cycles in who beats whom; rotation of two traits in time; selection on two traits without a potential;
learning whose Jacobian is not symmetric. Each is reported with what was measured and what it does not show.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.analysis import Standing
from fairyring.ecology.dynamics import (
    LearningJacobian,
    TraitRotation,
    invasion_fitness,
    judged,
    learning_jacobians,
    trait_rotation,
)
from fairyring.ecology.history import Evolution, WorldRun, fingerprint
from fairyring.ecology.lab import scaled
from fairyring.ecology.studies.coculture import CocultureResult, CocultureStudy
from fairyring.ecology.studies.study import Arm, Progress, conduct, part
from fairyring.ecology.world import NUMBERS, World, World2, tables
from fairyring.statistics import sign_flip_p

STRETCH = 64  # steps between two observations of a world's traits
_LEAST = 33 * STRETCH  # fewer observations cannot be divided into 16 blocks
# With fewer worlds, the smallest p of four measures over worlds is above .05 after Holm: 4 * 2 / 2^7 = .06.
_WORLDS = 8
BEHAVIOUR = ("emission", "response")
REWARDS = ("reward for emitting", "reward for the signal")
# Traits of the residents, log odds. Three by three points were too few: their coarseness alone gave a curl with p .001, which
# vanished on this grid.
EMISSIONS, RESPONSES = (-3.0, -2.0, -1.0, 0.0, 1.0), (-2.0, -1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True)
class Turning:
    """Two traits over time.

    Attributes:
        traits: their names.
        rotation: over worlds and in each world, with the time-reversal null.
        trend_p: for each trait, the two-sided p of a sign-flip test over worlds that both halves of the history have the same
            mean. If it is small, the worlds were not at rest, and the rotation must not be interpreted.
        mean: of each trait over worlds and time.
    """

    traits: tuple[str, str]
    rotation: TraitRotation
    trend_p: tuple[float, float]
    mean: tuple[float, float]


@dataclass(frozen=True)
class Curl:
    """Invasion fitness between neighbours on a grid of two traits, as plain numbers; see `InvasionFitness`, `InvasionCurl`.

    Attributes:
        emission, response: traits of the residents.
        gradients: `[n][m][2]`, means over replicates, per step and log odds.
        errors: their standard errors.
        population: `[n][m]`, number of bacteria.
        gone: `[n][m]`, share of jars where mutants or residents were extinct at the end, which distorts growth.
        share, p, null_share, mean_curl, mean_curl_error: of the work of selection between neighbours.
        replicates: those in which no jar died out.
    """

    emission: tuple[float, ...]
    response: tuple[float, ...]
    gradients: list[list[list[float]]]
    errors: list[list[list[float]]]
    population: list[list[float]]
    gone: list[list[float]]
    share: float
    p: float | None
    null_share: float | None
    mean_curl: float
    mean_curl_error: float | None
    replicates: int


@dataclass(frozen=True)
class NonGradientResult:
    """The results of a study of non-gradient dynamics, as plain numbers.

    Attributes:
        seed, worlds: of the worlds whose traits were followed.
        settled, steps: steps before traits were followed, and steps for which they were.
        jars, early_jars: rankings from the study of co-culture; None without one.
        behaviour: traits of behaviour. Emission is the share of the living that emit; response is how much more their tables
            prefer tumbling with the signal than without.
        rewards: inherited traits, over the norm of the genome: the mean rewards for emitting and for the signal.
        curl: of invasion fitness, for hand-written tables.
        learning: Jacobian of what two halves of a population learn, in the same worlds.
        found: the conclusions in sentences.
    """

    seed: int
    worlds: int
    settled: int
    steps: int
    jars: Standing | None
    early_jars: Standing | None
    behaviour: Turning
    rewards: Turning
    curl: Curl
    learning: LearningJacobian
    found: tuple[str, ...]


@dataclass(frozen=True)
class NonGradientStudy:
    """The study of non-gradient dynamics; arguments as in `study_non_gradient`.

    Attributes:
        jars: a study of co-culture to run as a part of it and test for cycles; None for none.
        jar_study: the result of such a study, if it was run before.
        first: number of the first followed world.
    """

    settings: World
    worlds: int | None = None
    settled: int | None = None
    steps: int | None = None
    emission: Sequence[float] = EMISSIONS
    response: Sequence[float] = RESPONSES
    invasion_replicates: int | None = None
    invasion_steps: int | None = None
    learning_replicates: int | None = None
    scale: float = 0.5
    seed: int = 0
    quick: bool = False
    jars: CocultureStudy | None = None
    jar_study: CocultureResult | None = None
    first: int = 0

    @property
    def steps_followed(self) -> int:
        """Steps over which traits are followed."""
        return self.steps or (2560 if self.quick else 12288)

    @property
    def kind(self) -> str:
        return "rotation"

    def arms(self) -> tuple[Arm, ...]:
        world, steps = self.settings, self.steps_followed
        if not isinstance(world, World2) or not {"emitted", "signal"} <= {
            event.name for event in world.events
        }:
            raise EcologyError(
                "settings",
                given=type(world).__name__,
                expected="a World2 with rewards for 'emitted' and 'signal'",
                do="World2().",
            )
        if steps < _LEAST or steps % STRETCH:
            raise EcologyError(
                "steps", given=steps, expected=f"a multiple of {STRETCH} from {_LEAST}", do=f"Take {_LEAST}."
            )
        worlds, settled = (
            self.worlds or (8 if self.quick else 12),
            self.settled or (1000 if self.quick else 6000),
        )
        numbers = range(self.first, self.first + worlds)
        followed = Arm("followed", world, numbers, settled, "followed worlds")
        return (*(self.jars.arms() if self.jars is not None else ()), followed)

    def decide(self, runs: Mapping[str, Evolution], progress: Progress, cores: int | None) -> dict[str, Any]:
        results: dict[str, Any] = {"runs": {name: fingerprint(run) for name, run in runs.items()}}
        jars = self.jar_study
        if self.jars is not None:
            jars = self.jars.put_together(runs["populations"], progress, cores)
        if jars is not None:
            results["jars"] = jars
        return results | {"rotation": self.measure(runs["followed"], jars, progress, cores)}

    def measure(
        self, evolved: Evolution, jars: CocultureResult | None, progress: Progress, cores: int | None
    ) -> NonGradientResult:
        """Follow the traits of a run's worlds, and measure selection and learning.

        Raises:
            EcologyError: a world died out.
        """
        world, seed, settled = evolved.settings, self.seed, evolved.steps
        assert isinstance(world, World2)  # as `arms` asks
        steps, scale = self.steps_followed, self.scale
        invasion_replicates = self.invasion_replicates or (4 if self.quick else 12)
        invasion_steps = self.invasion_steps or (300 if self.quick else 800)
        followed, evolved = follow(evolved, steps, cores=cores, progress=part(progress, "following"))
        behaviour = _turning(BEHAVIOUR, followed[..., :2], seed)
        rewards = _turning(REWARDS, followed[..., 2:], seed)
        jacobians = learning_jacobians(
            world,
            evolved.worlds,
            replicates=self.learning_replicates or (2 if self.quick else 6),
            seed=seed,
            cores=cores,
            progress=part(progress, "learning"),
        )
        learning = judged(jacobians.mean(1), steps=32, moved=0.1, seed=seed)
        inherited = scaled(dataclasses.replace(world, policy=tables(), control="none"), scale)
        fitness = invasion_fitness(
            inherited,  # pyright: ignore[reportArgumentType] scaling keeps the kind of world
            self.emission,
            self.response,
            founders=min(inherited.capacity // 2, 400),
            steps=invasion_steps,
            replicates=invasion_replicates,
            seed=seed,
            cores=cores,
            progress=part(progress, "invasions"),
        )
        complete = fitness.gradients[np.isfinite(fitness.gradients).all((1, 2, 3))]
        curl = Curl(
            tuple(self.emission),
            tuple(self.response),
            complete.mean(0).tolist(),
            (complete.std(0, ddof=1) / np.sqrt(len(complete))).tolist(),
            fitness.population.tolist(),
            fitness.gone.tolist(),
            fitness.curl.share,
            fitness.curl.p,
            fitness.curl.null_share,
            fitness.curl.mean_curl,
            fitness.curl.mean_curl_error,
            len(complete),
        )
        standings = (jars.standing, jars.early_standing) if jars is not None else (None, None)
        return NonGradientResult(
            seed,
            len(evolved.worlds),
            settled,
            steps,
            *standings,
            behaviour,
            rewards,
            curl,
            learning,
            _sentences(standings, behaviour, rewards, curl, learning),
        )


def study_non_gradient(
    jar_study: CocultureResult | None = None,
    *,
    settings: World2 | None = None,
    worlds: int | None = None,
    settled: int | None = None,
    steps: int | None = None,
    evolved: Evolution | None = None,
    emission: Sequence[float] = EMISSIONS,
    response: Sequence[float] = RESPONSES,
    invasion_replicates: int | None = None,
    invasion_steps: int | None = None,
    learning_replicates: int | None = None,
    scale: float = 0.5,
    seed: int = 0,
    quick: bool = False,
    cores: int | None = None,
    progress: Progress | None = None,
    out_folder: str | os.PathLike[str] | None = None,
) -> NonGradientResult:
    """Measure four kinds of non-gradient dynamics, each against a null without it.

    Args:
        jar_study: result of a study of co-culture, whose pairs are tested for cycles; without one there is no such test.
        settings: of the worlds: a `World2` whose rewards include "emitted" and "signal"; its defaults if None.
        worlds: how many are followed; 12, quick 8. With n worlds the smallest p of a rotation, and of learning, is 2 / 2^n.
            Four measures have this bound, so with fewer than 8 worlds none of them can reach .05 after Holm.
        settled: steps before traits are followed; 6,000, quick 1,000.
        steps: for which they are followed; 12,288, quick 2,560; a multiple of 64 from 2,112.
        evolved: worlds to continue from instead; they count as settled.
        emission, response: traits of the residents in the invasion jars, log odds, increasing in equal steps.
        invasion_replicates, invasion_steps: jars for each mutant, and their steps: 12 and 800; quick 4 and 300.
        learning_replicates: of each world; 6, quick 2.
        scale: width of the invasion jars over that of the world.
        seed: of all randomness.
        quick: fewer and shorter worlds, for a first look.
        cores: how many to use; all by default.
        progress: called with what is being done, how much of it is done, and how much there is.
        out_folder: where the run of the followed worlds is stored, as `followed.eco`, and continued, and `study.json` is
            written; None stores nothing.

    Raises:
        EcologyError: unsuitable settings, impossible numbers, or worlds that died out.
        RunMismatch: the folder holds a run of other settings or another seed, or a longer one.
        StorageError: the folder cannot be made, or not be written to.
    """
    study = NonGradientStudy(
        evolved.settings if evolved is not None else settings or World2(),
        worlds,
        settled,
        steps,
        emission,
        response,
        invasion_replicates,
        invasion_steps,
        learning_replicates,
        scale,
        seed,
        quick,
        jar_study=jar_study,
    )
    runs = None if evolved is None else {"followed": evolved}
    return conduct(study, out_folder, runs=runs, cores=cores, progress=progress)["rotation"]


def follow(
    run: Evolution,
    steps: int,
    *,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, Evolution]:
    """Continue a run and record traits of its populations every `STRETCH` steps.

    Args:
        run: of a World2 that learns.
        steps: for how long; a multiple of `STRETCH`.
        cores: how many to use; all by default.
        progress: called with steps done and steps to do.

    Returns:
        The traits `[worlds, stretches, 4]`, and the run. The traits are: emission, the share of the living that emitted
        over the stretch; response, the preferred motion with the signal minus that without (1 tumble, -1 run, 0 neither),
        halved, as a mean over individuals and states of the other senses; and the mean rewards for emitting and for the
        signal, each genome divided by its norm. The last three are means of both ends of the stretch. So all four refer to
        the same time, and time reversal leaves them unchanged; a lag between two of them would look like rotation.

    Raises:
        EcologyError: steps that are not such a multiple, or a world that dies out.
    """
    if steps < STRETCH or steps % STRETCH:
        raise EcologyError(
            "steps", given=steps, expected=f"a multiple of {STRETCH}, above 0", do=f"Take {STRETCH * 16}."
        )
    names = [event.name for event in run.settings.events]
    columns = [names.index("emitted"), names.index("signal")]
    emitted, ends, now = [], [[_observed(world, columns) for world in run.worlds]], run
    for done in range(STRETCH, steps + 1, STRETCH):
        now = now.until(run.steps + done, cores=cores)
        emitted.append([_emission(world) for world in now.worlds])
        ends.append([_observed(world, columns) for world in now.worlds])
        if progress is not None:
            progress(done * len(now.worlds), steps * len(now.worlds))
    return np.swapaxes(over_stretches(np.array(emitted), np.array(ends)), 0, 1), now


def over_stretches(means: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Join means over stretches with observations at their ends, which are averaged over both ends of each stretch.

    Args:
        means: `[stretches, ...]`.
        ends: `[stretches + 1, ..., k]`: at the start of the first stretch and at the end of each stretch.

    Returns:
        `[stretches, ..., 1 + k]`.
    """
    return np.concatenate([means[..., None], (ends[1:] + ends[:-1]) / 2], -1)


def _emission(world: WorldRun) -> float:
    """The share of the living that emitted, over the last stretch."""
    population, emitters = (
        world.numbers[-STRETCH:, NUMBERS.index(name)].sum() for name in ("population", "emitters")
    )
    return float(emitters / population)


def _observed(world: WorldRun, columns: list[int]) -> list[float]:
    """Response and the two mean rewards of a world now; `columns` are those of the rewards in a genome."""
    genomes = world.genomes()
    if not len(genomes):
        raise EcologyError(
            "world",
            given="nobody alive",
            expected="a population to follow",
            do="Take other seeds or settings.",
        )
    q = world.minds()["values"].reshape(len(genomes), -1, 2, 2, 2)  # state, signal, emitting, tumbling
    motion = np.sign(q.max(3)[..., 1] - q.max(3)[..., 0])
    rewards = genomes[:, columns] / np.maximum(np.linalg.norm(genomes, axis=1), 1e-9)[:, None]
    response = (motion[:, :, 1] - motion[:, :, 0]).mean() / 2
    return [float(response), *rewards.mean(0).tolist()]


def _turning(names: tuple[str, str], traits: np.ndarray, seed: int) -> Turning:
    half = traits.shape[1] // 2
    moved = traits[:, half:].mean(1) - traits[:, :half].mean(1)
    trend = (sign_flip_p(moved[:, 0], seed), sign_flip_p(moved[:, 1], seed))
    mean = traits.mean((0, 1))
    return Turning(names, trait_rotation(traits, seed=seed), trend, (float(mean[0]), float(mean[1])))


def _sentences(
    standings: tuple[Standing | None, Standing | None],
    behaviour: Turning,
    rewards: Turning,
    curl: Curl,
    learning: LearningJacobian,
) -> tuple[str, ...]:
    lines = []
    for when, one in zip(("at the end", "early on"), standings, strict=True):
        if one is not None:
            sure = (
                "" if one.sure_cycles is None else f", {one.sure_cycles} of them beyond drift at every step"
            )
            test = (
                "Not tested: where losers have nearly died out, a ranking is distorted and looks cyclic."
                if when == "at the end"
                else f"p {one.hodge.p:.3g}; where some lose fast, a ranking is distorted by then too, and p is too small."
            )
            lines.append(
                f"Jars {when}: no ranking explains {one.hodge.share:.3f} of the log odds of the pairs; a ranking with the same "
                f"noise leaves {one.hodge.null_share:.3f}. {test} {one.cycles} of {one.triples} triples are cyclic{sure}."
            )
    for what, one in (("what they do", behaviour), ("what they inherit", rewards)):
        interval, rest = one.rotation.mean, min(one.trend_p)
        lines.append(
            f"{what.capitalize()}: {one.traits[0]} and {one.traits[1]} rotate by {interval.estimate:.4f} per observation "
            f"({interval.low:.4f} to {interval.high:.4f}; time reversal p {one.rotation.p:.3g}). "
            + (
                "By a comparison of halves they were at rest."
                if rest > 0.05
                else f"They were not at rest (p {rest:.3g})."
            )
        )
    lines.append(
        f"Selection on hand-written tables: {curl.share:.3f} of the work of selection between neighbours has no potential; the "
        f"fitted landscape with the same noise leaves {curl.null_share:.3f} (p {curl.p:.3g}). Mean curl {curl.mean_curl:.2g}. "
        f"One of the two was extinct at the end of {np.mean(curl.gone):.0%} of the jars ({np.max(curl.gone):.0%} at the worst "
        "point); where nearly all are, growth is distorted, and even a landscape has curl."
    )
    lines.append(
        f"Learning of two halves of a population: antisymmetric share of the Jacobian {learning.antisymmetric_share:.3f}, "
        f"with noise alone {learning.null_share:.3f} (p {learning.p:.3g}); between the halves {learning.between:.3f} "
        f"(p {learning.between_p:.3g}; two tests, not adjusted)."
    )
    worlds = len(behaviour.rotation.turning)
    if worlds < _WORLDS:
        lines.append(
            f"With {worlds} worlds no p of a rotation or of learning can be below {2 / 2**worlds:.2g}, so none can be shown "
            f"after adjustment for all of them. That takes {_WORLDS} worlds."
        )
    return tuple(lines)
