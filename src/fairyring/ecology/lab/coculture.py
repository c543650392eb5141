"""Co-culture: populations that evolved apart are put together in closed worlds and counted.

A replicate of a co-culture is called a jar: a world whose founders are drawn from populations in given shares and placed at
random in a fresh field with the start energy. It is closed: there is no immigration, and by default no mutation or conjugation.
So the competitors do not change, and a label stands both for descent and for the genome.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.history import Evolution, WorldRun, advance
from fairyring.ecology.results import Row
from fairyring.ecology.world import State, World, World2, settled

STOPS = (0.1, 0.25, 0.5, 0.75, 1.0)  # fractions of a jar's steps at which positions are recorded
_BATCH = 48  # worlds in memory at once
_LATE = 1 / 3  # fraction of the steps, at the end, over which a yield is averaged


@dataclass(frozen=True, eq=False)
class Population:
    """Individuals from which the founders of a jar are drawn.

    Attributes:
        name: of the population.
        genomes: float32 `[individuals, genes]`.
        minds: of the policy, arrays `[individuals, ...]`; they hold what was learned.
    """

    name: str
    genomes: np.ndarray
    minds: Any = ()

    @classmethod
    def of(cls, run: Evolution, world: int, name: str | None = None) -> "Population":
        """The living individuals of a world.

        Args:
            run: that the world belongs to.
            world: its number.
            name: of the population; the number of the world by default.

        Raises:
            EcologyError: the run has no such world.
        """
        source = run.world(world)
        return cls(str(world) if name is None else name, source.genomes(), source.minds())


@dataclass(frozen=True, eq=False)
class Mix:
    """The composition of a co-culture.

    Attributes:
        name: of the co-culture; together with the seed it determines the random numbers.
        populations: one for each label; the same population may stand under two labels.
        shares: of each label among the founders; they need not sum to 1.
    """

    name: str
    populations: tuple[Population, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Coculture:
    """The outcome of a co-culture in some replicates (jars).

    Attributes:
        name: of the mix.
        labels: names of its populations.
        steps: `[times]`, the steps at which individuals were counted, from 0.
        counts: int32 `[replicates, labels, times]`, number of living individuals of each label.
        population: int32 `[replicates, times]`, number of living individuals by the world's own count.
        use: int64 `[replicates, labels, bins]`, positions of each label over all `STOPS`, binned as in `niche_bins`.
    """

    name: str
    labels: tuple[str, ...]
    steps: np.ndarray
    counts: np.ndarray
    population: np.ndarray
    use: np.ndarray

    def shares(self, at: int = -1) -> np.ndarray:
        """Share of the first label at a time (an index into `steps`), `[replicates]`; NaN for an extinct jar."""
        now = self.counts[:, :, at].astype(float)
        total = now.sum(1)
        return np.where(total > 0, now[:, 0] / np.maximum(total, 1), np.nan)

    def late_shares(self) -> np.ndarray:
        """Share of the first label over the last third of the steps, `[replicates]`; NaN if nobody lived then."""
        late = self.yields()
        total = late.sum(1)
        return np.where(total > 0, late[:, 0] / np.where(total > 0, total, 1.0), np.nan)

    def log_odds(self, at: int = -1) -> np.ndarray:
        """ln((n + 1/2) / (others + 1/2)) of the first label at a time, `[replicates]`; NaN for an extinct jar."""
        now = self.counts[:, :, at].astype(float)
        others = now[:, 1:].sum(1)
        odds = np.log((now[:, 0] + 0.5) / (others + 0.5))
        return np.where(now[:, 0] + others > 0, odds, np.nan)

    def yields(self) -> np.ndarray:
        """Mean number of individuals of each label over the last third of the steps, `[replicates, labels]`."""
        late = self.steps >= self.steps[-1] * (1 - _LATE)
        return self.counts[:, :, late].mean(2)

    def table(self) -> list[Row]:
        """A row for each jar and count: how many lived of each label, and of all, for data frames and `write_csv`."""
        return [
            {"jar": jar, "step": int(step)}
            | {f"alive.{label}": int(self.counts[jar, i, at]) for i, label in enumerate(self.labels)}
            | {"population": int(self.population[jar, at])}
            for jar in range(len(self.counts))
            for at, step in enumerate(self.steps)
        ]

    def index(self, step: int) -> int:
        """Index of the last count at or before a step."""
        return max(0, int(np.searchsorted(self.steps, step, "right")) - 1)


def coculture(
    settings: World,
    populations: Sequence[Population],
    shares: Sequence[float],
    *,
    name: str = "jar",  # part of the random address: never change it
    founders: int = 400,
    steps: int = 3000,
    replicates: int = 20,
    seed: int = 0,
    every: int = 10,
    mutation: bool = False,
    conjugation: bool = False,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Coculture:
    """One mix of populations in `replicates` jars; see `cocultures`."""
    return cocultures(
        settings,
        [Mix(name, tuple(populations), tuple(shares))],
        founders=founders,
        steps=steps,
        replicates=replicates,
        seed=seed,
        every=every,
        mutation=mutation,
        conjugation=conjugation,
        cores=cores,
        progress=progress,
    )[0]


def cocultures(
    settings: World,
    mixes: Sequence[Mix],
    *,
    founders: int = 400,
    steps: int = 3000,
    replicates: int | Sequence[int] = 20,
    seed: int = 0,
    every: int = 10,
    mutation: bool = False,
    conjugation: bool = False,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Coculture]:
    """Put populations together, each mix in some jars, and count them.

    The founders of each replicate are drawn anew, without replacement as far as a population suffices. So replicates differ
    in who was drawn, in positions, and in everything that happens. A population under two labels shows the effect of its own
    variation and of drift. The bits of a replicate do not depend on other replicates or mixes.

    Args:
        settings: of the jars; `founders` and `minimum` are overridden.
        mixes: with different names.
        founders: of a jar.
        steps: of a jar; a multiple of `every`.
        replicates: how many jars for each mix, or their numbers.
        seed: of all randomness.
        every: steps between two recorded counts.
        mutation: whether genomes mutate, at the rate of the settings. Without it the competitors do not change.
        conjugation: whether genes are exchanged, at the rate of the settings. It mixes what the labels distinguish.
        cores: how many to use; all by default.
        progress: called with steps done and steps to do.

    Raises:
        EcologyError: impossible mixes or numbers, or populations whose genomes do not fit the settings.
    """
    numbers = tuple(range(replicates)) if isinstance(replicates, int) else tuple(replicates)
    _refuse(settings, mixes, founders, steps, every, numbers)
    closed = dataclasses.replace(
        settings,
        founders=founders,
        minimum=0,
        mutation_rate=settings.mutation_rate if mutation else 0.0,
        conjugation=settings.conjugation if conjugation else 0.0,
    )
    todo = [(mix, number) for mix in mixes for number in numbers]
    counted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for first in range(0, len(todo), _BATCH):
        batch = todo[first : first + _BATCH]
        before = first * steps

        def watch(_: Any, done: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, len(todo) * steps)

        counted += _counted(closed, batch, steps, every, seed, cores, watch)
    times = np.arange(0, steps + 1, every)
    outcomes = []
    for i, mix in enumerate(mixes):
        rows = counted[i * len(numbers) : (i + 1) * len(numbers)]
        counts, population, use = (np.stack(each) for each in zip(*rows, strict=True))
        labels = tuple(p.name for p in mix.populations)
        outcomes.append(Coculture(mix.name, labels, times, counts, population, use))
    return outcomes


def gathered(populations: Mapping[str, tuple[Evolution, int]]) -> Evolution:
    """Worlds of several runs as one run with the settings of the first, numbered from 0 in order.

    Args:
        populations: by a name for errors: the run, and the number of the world in it.

    Raises:
        EcologyError: worlds with different bodies or minds. Their sizes and food may differ.
    """
    names, runs = list(populations), [run for run, _ in populations.values()]
    worlds = [run.world(number) for run, number in populations.values()]
    first = runs[0].settings
    for name, run in zip(names, runs, strict=True):
        ours, theirs = (
            dataclasses.replace(
                of,
                width=128,
                capacity=2048,
                sources=6,
                founders=0,
                minimum=0,
                food_influx=0.0,
                control="none",
            )
            for of in (first, run.settings)
        )
        if type(ours) is not type(theirs) or ours != theirs:
            raise EcologyError(
                name,
                given="a population of another kind of world",
                expected=f"the kind of {names[0]}: the same senses, policy, events, costs and rates",
                do="Choose populations that can live in one world.",
            )
    return Evolution(first, runs[0].seed, tuple(range(len(worlds))), tuple(worlds))


def scaled(settings: World, scale: float) -> World:
    """The same world with `scale` times the width; influx, sources, capacity and founders scale with the area.

    Densities and `rho` do not change. Drift is stronger among fewer bacteria. The number of sources is rounded, so each may
    give a little more or less.

    Raises:
        EcologyError: the scaled world is too small.
    """
    area = scale * scale
    return dataclasses.replace(
        settings,
        width=round(settings.width * scale),
        capacity=max(64, -(-round(settings.capacity * area) // 32) * 32),
        founders=round(settings.founders * area),
        minimum=round(settings.minimum * area),
        sources=max(1, round(settings.sources * area)),
        food_influx=settings.food_influx * (round(settings.width * scale) / settings.width) ** 2,
    )


def niche_bins(settings: World) -> tuple[str, ...]:
    """Names of the bins of `Coculture.use`: five classes of food at the position, in World2 times three of signal."""
    food = [f"food < {edge:.3g}" for edge in _food_edges(settings)]
    food.append(f"food >= {_food_edges(settings)[-1]:.3g}")
    if not isinstance(settings, World2):
        return tuple(food)
    signal = [f"signal < {edge:.3g}" for edge in _signal_edges(settings)]
    signal.append(f"signal >= {_signal_edges(settings)[-1]:.3g}")
    return tuple(f"{one}, {other}" for one in food for other in signal)


def _food_edges(settings: World) -> tuple[float, ...]:
    low, high = settings.level_low, settings.level_high
    return low, (low * high) ** 0.5, high, 3 * high


def _signal_edges(settings: World2) -> tuple[float, ...]:
    return settings.signal_threshold, 4 * settings.signal_threshold


def _refuse(
    settings: World, mixes: Sequence[Mix], founders: int, steps: int, every: int, numbers: Sequence[int]
) -> None:
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise EcologyError(
            "replicates", given=list(numbers), expected="one or more different numbers", do="Ask for some."
        )
    if every < 1 or steps < every or steps % every:
        raise EcologyError(
            "steps",
            given=f"{steps}, counted every {every}",
            expected="a multiple of `every`, above 0",
            do=f"Take {max(1, steps // max(every, 1)) * max(every, 1)}.",
        )
    names = [mix.name for mix in mixes]
    if not mixes or len(set(names)) < len(names):
        raise EcologyError(
            "mixes", given=names, expected="one or more with different names", do="Rename them."
        )
    for mix in mixes:
        if len(mix.shares) != len(mix.populations) or not mix.shares or min(mix.shares) <= 0:
            raise EcologyError(
                f"shares of {mix.name!r}",
                given=f"{mix.shares} for {len(mix.populations)} populations",
                expected="one above 0 for each",
                do="Leave out populations without a share.",
            )
        if founders < len(mix.populations):
            raise EcologyError(
                "founders", given=founders, expected=f"at least {len(mix.populations)}", do="Ask for more."
            )
        for one in mix.populations:
            if one.genomes.ndim != 2 or not len(one.genomes) or one.genomes.shape[1] != settings.genes:
                raise EcologyError(
                    f"population {one.name!r}",
                    given=f"genomes {one.genomes.shape}",
                    expected=f"[1 or more, {settings.genes}]",
                    do="Draw it from a living world of these settings.",
                )


def _counted(
    settings: World,
    batch: Sequence[tuple[Mix, int]],
    steps: int,
    every: int,
    seed: int,
    cores: int | None,
    watch: Callable[[Any, int], None],
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each replicate, the counts of its labels, the world's own count, and the binned positions of its labels."""
    worlds, labels = [], []
    for mix, number in batch:
        key = _key(seed, mix, number)
        state, of = _filled(settings, mix, key)
        worlds.append(WorldRun.new(settings, key, state))
        labels.append(of)
    bins = len(niche_bins(settings))
    use = [np.zeros((len(mix.populations), bins), np.int64) for mix, _ in batch]
    for stop in sorted({max(1, round(part * steps)) for part in STOPS}):
        start = sum(world.steps for world in worlds)
        worlds, _ = advance(
            settings, worlds, stop, cores=cores, watch=lambda ws, done, start=start: watch(ws, start + done)
        )
        for world, of, binned in zip(worlds, labels, use, strict=True):
            label = of[world.lineage.founder()[world.uids()]]
            np.add.at(binned, (label, _bins(settings, world)), 1)
    rows = []
    for (mix, _), world, of, binned in zip(batch, worlds, labels, use, strict=True):
        counts = np.zeros((len(mix.populations), steps + 1), np.int32)
        present = world.lineage.count(of[world.lineage.founder()], steps)
        counts[: len(present)] = present
        own = np.concatenate([[settings.founders], world.numbers[:, 0]]).astype(np.int32)
        rows.append((counts[:, ::every], own[::every], binned))
    return rows


def _key(seed: int, mix: Mix, number: int) -> Any:
    word = int.from_bytes(hashlib.sha256(mix.name.encode()).digest()[:4], "little")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), word), number)


def _filled(settings: World, mix: Mix, key: Any) -> tuple[State, np.ndarray]:
    """A world at its start with founders drawn from the mix, and the label of each founder."""
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    label = np.repeat(np.arange(len(mix.shares)), _sizes(mix.shares, settings.founders))
    # Places are shuffled, so that the order of places favours no label.
    order = draw.permutation(settings.founders)
    picks = [
        draw.choice(len(one.genomes), count, replace=count > len(one.genomes))
        for one, count in zip(mix.populations, np.bincount(label), strict=True)
    ]

    def drawn(*rows: np.ndarray) -> np.ndarray:
        return np.concatenate([np.asarray(own)[pick] for own, pick in zip(rows, picks, strict=True)])[order]

    genomes = drawn(*(one.genomes for one in mix.populations))
    minds = jax.tree.map(drawn, *(one.minds for one in mix.populations))
    return settled(settings, key, genomes, minds), label[order].astype(np.int32)


def _sizes(shares: Sequence[float], n: int) -> np.ndarray:
    """Whole numbers from 1 that sum to `n`, as near to the shares as possible (largest remainder)."""
    exact = np.asarray(shares, float) / np.sum(shares) * n
    sizes = np.maximum(np.floor(exact).astype(int), 1)
    while sizes.sum() != n:
        off = exact - sizes
        i = int(np.argmax(off)) if sizes.sum() < n else int(np.argmin(np.where(sizes > 1, off, np.inf)))
        sizes[i] += 1 if sizes.sum() < n else -1
    return sizes


def _bins(settings: World, world: WorldRun) -> np.ndarray:
    """The bin of each living individual, in the order of `WorldRun.living`, by the chemicals in its cell."""
    state, places = world.state, world.living()
    x, y = (np.asarray(axis)[places].astype(int) % settings.width for axis in (state.x, state.y))
    food = np.searchsorted(_food_edges(settings), np.asarray(state.fields["food"])[x, y], "right")
    if not isinstance(settings, World2):
        return food
    edges = _signal_edges(settings)
    return food * (len(edges) + 1) + np.searchsorted(edges, np.asarray(state.fields["signal"])[x, y], "right")
