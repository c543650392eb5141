"""The study of rotation: four things that would not be so if bacteria climbed one hill, each beside its null.

From weak to strong: cycles in who beats whom; two traits that turn in time; selection on two traits that has no potential;
learning whose Jacobian is not its transpose. Each is told with what was measured and what it does not say.
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
from fairyring.ecology.studies.jars import CocultureStudy, JarStudy
from fairyring.ecology.studies.study import Arm, Told, conduct, part
from fairyring.ecology.world import NUMBERS, World, World2, tables
from fairyring.statistics import sign_flip_p

STRETCH = 64  # steps between two looks at a world's traits
_LEAST = 33 * STRETCH  # fewer looks cannot be cut into 16 blocks
_WORLDS = (
    8  # fewer, and the least p there is for four measures over worlds is above .05 by Holm: 4 * 2 / 2^7 = .06
)
BEHAVIOUR = ("emission", "response")
REWARDS = ("reward for emitting", "reward for the signal")
# Residents' traits, log odds. Three by three points were too few: their coarseness alone gave a curl with p .001 that was
# gone on these.
EMISSIONS, RESPONSES = (-3.0, -2.0, -1.0, 0.0, 1.0), (-2.0, -1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True)
class Turning:
    """Two traits in time.

    Attributes:
        traits: what they are.
        rotation: of them, over worlds and in each, with the time-reversal null.
        trend_p: of each trait, two-sided over worlds, that its second half lies where its first half did (signs flipped).
            A small one says that the worlds were not at rest, and that the rotation is not to be read.
        mean: of each trait over worlds and time.
    """

    traits: tuple[str, str]
    rotation: TraitRotation
    trend_p: tuple[float, float]
    mean: tuple[float, float]


@dataclass(frozen=True)
class Curl:
    """Invasion fitness between neighbours on a grid of two traits, as plain numbers; see `InvasionFitness` and `InvasionCurl`.

    Attributes:
        emission, response: of the residents.
        gradients: `[n][m][2]`, means over replicates, a step and log odds.
        errors: their standard errors.
        population: `[n][m]`, inhabitants.
        gone: `[n][m]`, share of jars where mutants or residents were gone at the end, which bends growth.
        share, p, null_share, mean_curl, mean_curl_error: of the works of selection between neighbours.
        replicates: in which everybody's jars lived.
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
class RotationStudy:
    """What turns, as plain numbers.

    Attributes:
        seed, worlds, settled, steps: of the worlds whose traits were followed: after so many steps, for so many.
        jars, early_jars: rankings of the study of jars; None without.
        behaviour: what bacteria do: emission, the share of the living that emit; response, how far their tables prefer
            tumbling more with the signal than without.
        rewards: what they inherit, over its norm: the mean reward for emitting and for the signal.
        curl: of invasion fitness, of hand-written tables.
        learning: Jacobian of what two halves of the same worlds' populations learn.
        found: in plain sentences.
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
    """The study of non-gradient dynamics; arguments as of `study_rotation`.

    Attributes:
        jars: study of jars that is part of it, whose pairs are asked for cycles; None for none.
        jar_study: what such a study found, if it was made before.
        first: number of the first world that is followed.
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
    jar_study: JarStudy | None = None
    first: int = 0

    @property
    def steps_followed(self) -> int:
        """Steps for which traits are followed."""
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

    def decide(self, runs: Mapping[str, Evolution], say: Told, cores: int | None) -> dict[str, Any]:
        found: dict[str, Any] = {"runs": {name: fingerprint(run) for name, run in runs.items()}}
        jars = self.jar_study
        if self.jars is not None:
            jars = self.jars.put_together(runs["populations"], say, cores)
        if jars is not None:
            found["jars"] = jars
        return found | {"rotation": self.measure(runs["followed"], jars, say, cores)}

    def measure(
        self, evolved: Evolution, jars: JarStudy | None, say: Told, cores: int | None
    ) -> RotationStudy:
        """Follow the traits of a run's worlds, and measure selection and learning beside them.

        Raises:
            EcologyError: worlds that died out.
        """
        world, seed, settled = evolved.settings, self.seed, evolved.steps
        assert isinstance(world, World2)  # as `arms` asks
        steps, scale = self.steps_followed, self.scale
        invasion_replicates = self.invasion_replicates or (4 if self.quick else 12)
        invasion_steps = self.invasion_steps or (300 if self.quick else 800)
        followed, evolved = follow(evolved, steps, cores=cores, progress=part(say, "following"))
        behaviour = _turning(BEHAVIOUR, followed[..., :2], seed)
        rewards = _turning(REWARDS, followed[..., 2:], seed)
        learnt = learning_jacobians(
            world,
            evolved.worlds,
            replicates=self.learning_replicates or (2 if self.quick else 6),
            seed=seed,
            cores=cores,
            progress=part(say, "learning"),
        )
        learning = judged(learnt.mean(1), steps=32, moved=0.1, seed=seed)
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
            progress=part(say, "invasions"),
        )
        lasting = fitness.gradients[np.isfinite(fitness.gradients).all((1, 2, 3))]
        curl = Curl(
            tuple(self.emission),
            tuple(self.response),
            lasting.mean(0).tolist(),
            (lasting.std(0, ddof=1) / np.sqrt(len(lasting))).tolist(),
            fitness.population.tolist(),
            fitness.gone.tolist(),
            fitness.curl.share,
            fitness.curl.p,
            fitness.curl.null_share,
            fitness.curl.mean_curl,
            fitness.curl.mean_curl_error,
            len(lasting),
        )
        standings = (jars.standing, jars.early_standing) if jars is not None else (None, None)
        return RotationStudy(
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


def study_rotation(
    jar_study: JarStudy | None = None,
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
    progress: Told | None = None,
    out_folder: str | os.PathLike[str] | None = None,
) -> RotationStudy:
    """Measure four kinds of rotation, each against a null without it.

    Args:
        jar_study: whose pairs are asked for cycles; without one they are not.
        settings: of the worlds: a `World2` whose rewards include "emitted" and "signal", by default the plain one.
        worlds: how many are followed; 12, quick 8. Of n worlds the least p of a turning, and of learning, is 2 / 2^n: four
            measures have it, so with fewer than 8 none of them can be shown by Holm's .05.
        settled: steps before traits are followed; 6,000, quick 1,000.
        steps: for which they are; 12,288, quick 2,560; a multiple of 64 from 2,112.
        evolved: worlds to go on with instead; they are settled as they are.
        emission, response: traits of the residents in the jars of invasions, log odds, increasing by equal steps.
        invasion_replicates, invasion_steps: jars for each mutant, 12 and 800 steps; quick 4 and 300.
        learning_replicates: of each world; 6, quick 2.
        scale: width of the invasion's jars over that of the world.
        seed: of all chance.
        quick: for a first look: fewer and shorter.
        cores: how many to use; all by default.
        progress: called with what is being done, how much of it is done, and how much there is.
        out_folder: where the run of the worlds that are followed is kept, as `followed.eco`, and gone on with, and `study.json` is
            written; None keeps nothing.

    Raises:
        EcologyError: other settings, numbers that make no sense, or worlds that died out.
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
    """Traits of the worlds' populations as they run on, looked at every `STRETCH` steps.

    Args:
        run: of a World2 that learns.
        steps: for how long; a multiple of `STRETCH`.
        cores: how many to use; all by default.
        progress: called with steps made and steps to make.

    Returns:
        `[worlds, looks, 4]`: emission, the share of the living that emitted over the stretch; response, the mean over individuals
        and states of the other senses of which motion is preferred with the signal less without (1 tumble, -1 run, 0
        neither; halved); the mean rewards for emitting and for the signal, each genome over its norm. The last three are the
        means of both ends of the stretch: so all four are of the same time, and a history run backwards has the same. One
        that lagged behind another would turn with it, though nothing does. And the run.

    Raises:
        EcologyError: steps that are no such multiple, or a world that dies out.
    """
    if steps < STRETCH or steps % STRETCH:
        raise EcologyError(
            "steps", given=steps, expected=f"a multiple of {STRETCH}, above 0", do=f"Take {STRETCH * 16}."
        )
    names = [event.name for event in run.settings.events]
    columns = [names.index("emitted"), names.index("signal")]
    emitted, ends, now = [], [[_look(world, columns) for world in run.worlds]], run
    for made in range(STRETCH, steps + 1, STRETCH):
        now = now.until(run.steps + made, cores=cores)
        emitted.append([_emission(world) for world in now.worlds])
        ends.append([_look(world, columns) for world in now.worlds])
        if progress is not None:
            progress(made * len(now.worlds), steps * len(now.worlds))
    return np.swapaxes(over_stretches(np.array(emitted), np.array(ends)), 0, 1), now


def over_stretches(means: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """What was averaged over stretches beside what was looked at between them, each look `[..., k]` made a stretch's.

    Args:
        means: `[stretches, ...]`.
        ends: `[stretches + 1, ..., k]`: at the start of the first stretch and at the end of each.

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


def _look(world: WorldRun, columns: list[int]) -> list[float]:
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
    told = []
    for when, one in zip(("at the end", "early on"), standings, strict=True):
        if one is not None:
            sure = (
                "" if one.sure_cycles is None else f", {one.sure_cycles} of them beyond drift at every step"
            )
            judged_by = (
                "Not judged: where losers have all but died out a ranking is bent, and counts as cyclic."
                if when == "at the end"
                else f"p {one.hodge.p:.3g}; where some lose fast a ranking is bent by then too, and p too small."
            )
            told.append(
                f"Jars {when}: {one.hodge.share:.3f} of the pairs' log odds is what no ranking explains; a ranking with "
                f"this noise leaves {one.hodge.null_share:.3f}. {judged_by} {one.cycles} of {one.triples} triples go round{sure}."
            )
    for what, one in (("what they do", behaviour), ("what they inherit", rewards)):
        interval, rest = one.rotation.mean, min(one.trend_p)
        told.append(
            f"{what.capitalize()}: {one.traits[0]} and {one.traits[1]} turn by {interval.estimate:.4f} a look "
            f"({interval.low:.4f} to {interval.high:.4f}; time reversal p {one.rotation.p:.3g}). "
            + (
                "They were at rest as far as halves tell."
                if rest > 0.05
                else f"They were not at rest (p {rest:.3g})."
            )
        )
    told.append(
        f"Selection on hand-written tables: {curl.share:.3f} of the works of selection between neighbours has no potential; "
        f"the fitted landscape with this noise leaves {curl.null_share:.3f} (p {curl.p:.3g}). Mean curl {curl.mean_curl:.2g}. One of the two was gone at the end of {np.mean(curl.gone):.0%} of the "
        f"jars ({np.max(curl.gone):.0%} where most were): where nearly all are, growth is bent and even a landscape has curl."
    )
    told.append(
        f"Learning of two halves of a population: antisymmetric share of its Jacobian {learning.antisymmetric_share:.3f}, "
        f"with noise alone {learning.null_share:.3f} (p {learning.p:.3g}); between the halves {learning.between:.3f} "
        f"(p {learning.between_p:.3g}; two looks, not adjusted)."
    )
    worlds = len(behaviour.rotation.turning)
    if worlds < _WORLDS:
        told.append(
            f"With {worlds} worlds no p of a turning or of learning is below {2 / 2**worlds:.2g}: with all of them considered "
            f"none can be shown. It takes {_WORLDS} worlds."
        )
    return tuple(told)
