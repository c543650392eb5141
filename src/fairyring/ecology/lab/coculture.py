"""Jars: populations that evolved apart, put together in a closed world, and counted.

A jar is a world whose founders are drawn from populations in given shares, placed anywhere in a fresh field with the energy
of newcomers. It is closed: nobody comes in. Unless asked otherwise nothing mutates and nobody takes over genes, so that what
competes stays what it was, and a label says whose descendant one is and whose genome it has alike.
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
from fairyring.ecology.world import State, World, World2, settled

STOPS = (0.1, 0.25, 0.5, 0.75, 1.0)  # of a jar's steps: when it is looked at where everybody is
_BATCH = 48  # worlds in memory at once
_LATE = 1 / 3  # of the steps: over the last of them a yield is taken


@dataclass(frozen=True, eq=False)
class Population:
    """Individuals to draw a jar's founders from.

    Attributes:
        name: of the population.
        genomes: float32 `[individuals, genes]`.
        minds: of the policy, arrays `[individuals, ...]`: what they have learned.
    """

    name: str
    genomes: np.ndarray
    minds: Any = ()

    @classmethod
    def of(cls, run: Evolution, world: int, name: str | None = None) -> "Population":
        """Those alive in a world of a run, as they are.

        Args:
            run: whose world.
            world: its number.
            name: of the population; the world's number by default.

        Raises:
            EcologyError: the run has no such world.
        """
        if world not in run.numbers:
            raise EcologyError(
                "world", given=world, expected=f"one of {list(run.numbers)}", do="Choose one of the run's."
            )
        one = run.worlds[run.numbers.index(world)]
        return cls(str(world) if name is None else name, one.genomes(), one.minds())


@dataclass(frozen=True, eq=False)
class Mix:
    """What goes into a jar.

    Attributes:
        name: of the jar; with the seed it is the address of the jar's chance.
        populations: a label each; a population may be there twice, under two labels.
        shares: of the founders, of each label; they need not sum to 1.
    """

    name: str
    populations: tuple[Population, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Jar:
    """What became of a mix, in some replicates.

    Attributes:
        name: of the mix.
        labels: names of its populations.
        steps: `[times]`, when it was counted, from 0.
        counts: int32 `[replicates, labels, times]`, how many of each label lived.
        population: int32 `[replicates, times]`, how many lived by the world's own count.
        use: int64 `[replicates, labels, bins]`, where those of each label were, over all stops: see `niche_bins`.
    """

    name: str
    labels: tuple[str, ...]
    steps: np.ndarray
    counts: np.ndarray
    population: np.ndarray
    use: np.ndarray

    def shares(self, at: int = -1) -> np.ndarray:
        """Share of the first label at a time (an index of `steps`), `[replicates]`; NaN where nobody lives."""
        now = self.counts[:, :, at].astype(float)
        total = now.sum(1)
        return np.where(total > 0, now[:, 0] / np.maximum(total, 1), np.nan)

    def late_shares(self) -> np.ndarray:
        """Share of the first label over the last third of the steps, `[replicates]`; NaN where nobody lived then."""
        late = self.yields()
        total = late.sum(1)
        return np.where(total > 0, late[:, 0] / np.where(total > 0, total, 1.0), np.nan)

    def log_odds(self, at: int = -1) -> np.ndarray:
        """ln((n + 1/2) / (others + 1/2)) of the first label at a time, `[replicates]`; NaN where nobody lives."""
        now = self.counts[:, :, at].astype(float)
        others = now[:, 1:].sum(1)
        odds = np.log((now[:, 0] + 0.5) / (others + 0.5))
        return np.where(now[:, 0] + others > 0, odds, np.nan)

    def yields(self) -> np.ndarray:
        """Mean number of each label over the last third of the steps, `[replicates, labels]`."""
        late = self.steps >= self.steps[-1] * (1 - _LATE)
        return self.counts[:, :, late].mean(2)

    def index(self, step: int) -> int:
        """Index of the last time counted at or before a step."""
        return max(0, int(np.searchsorted(self.steps, step, "right")) - 1)


def jar(
    settings: World,
    populations: Sequence[Population],
    shares: Sequence[float],
    *,
    name: str = "jar",
    founders: int = 400,
    steps: int = 3000,
    replicates: int = 20,
    seed: int = 0,
    every: int = 10,
    mutation: bool = False,
    conjugation: bool = False,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Jar:
    """One mix in `replicates` worlds: see `jars`."""
    return jars(
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


def jars(
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
) -> list[Jar]:
    """Put populations together, each mix in some worlds, and count them.

    A replicate's founders are drawn anew (without replacement while a population suffices), so what differs between
    replicates is who was drawn, where all are, and everything that happens: a population under two labels shows how far
    its own variety and drift go. A replicate has the same bits alone, among others, and whatever other mixes there are.

    Args:
        settings: of the jars' worlds: width, food, control and so on. `founders` and `minimum` are set here.
        mixes: each with another name.
        founders: of a jar.
        steps: of a jar; a multiple of `every`.
        replicates: worlds a mix, or the numbers of those to make.
        seed: of all chance.
        every: steps between two counts that are kept.
        mutation: whether genomes mutate, as the settings have it. Off, what competes stays what it was.
        conjugation: whether genes pass between those who meet, as the settings have it: it mixes what labels tell apart.
        cores: how many to use; all by default.
        progress: called with steps made and steps to make.

    Raises:
        EcologyError: mixes or numbers that make no sense, or populations of other genomes than the settings'.
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
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for first in range(0, len(todo), _BATCH):
        batch = todo[first : first + _BATCH]
        before = first * steps

        def watch(_: Any, made: int, before: int = before) -> None:
            if progress is not None:
                progress(before + made, len(todo) * steps)

        kept += _counted(closed, batch, steps, every, seed, cores, watch)
    times = np.arange(0, steps + 1, every)
    made = []
    for i, mix in enumerate(mixes):
        rows = kept[i * len(numbers) : (i + 1) * len(numbers)]
        counts, population, use = (np.stack(each) for each in zip(*rows, strict=True))
        made.append(Jar(mix.name, tuple(p.name for p in mix.populations), times, counts, population, use))
    return made


def gathered(populations: Mapping[str, tuple[Evolution, int]]) -> Evolution:
    """Worlds of several runs as one run, their numbers from 0 in order: all will live by the first one's settings.

    Args:
        populations: by a name for errors, the run that each is of and its number there.

    Raises:
        EcologyError: bodies or minds of two kinds. How large and rich their worlds were may differ.
    """
    names, runs = list(populations), [run for run, _ in populations.values()]
    worlds = [run.worlds[run.numbers.index(number)] for run, number in populations.values()]
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
                do="Put populations together that can live in one world.",
            )
    return Evolution(first, runs[0].seed, tuple(range(len(worlds))), tuple(worlds))


def scaled(settings: World, scale: float) -> World:
    """The same world on `scale` times the width: influx, sources, capacity and founders go with the area.

    Densities and `rho` stay what they were; of fewer bacteria, drift is stronger. Sources are a whole number, so each may
    give a little more or less.

    Raises:
        EcologyError: nothing is left of it.
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
    """What the bins of `Jar.use` are: five classes of food where one is, in World2 by three of signal."""
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
            "mixes", given=names, expected="one or more, each with a name of its own", do="Rename."
        )
    for mix in mixes:
        if len(mix.shares) != len(mix.populations) or not mix.shares or min(mix.shares) <= 0:
            raise EcologyError(
                f"shares of {mix.name!r}",
                given=f"{mix.shares} for {len(mix.populations)} populations",
                expected="one above 0 for each",
                do="Leave out who is not there.",
            )
        if founders < len(mix.populations):
            raise EcologyError(
                "founders", given=founders, expected=f"at least {len(mix.populations)}", do="Take more."
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
    """Of each replicate its counts, the world's own count, and where its labels were."""
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
            settings, worlds, stop, cores=cores, watch=lambda ws, made, start=start: watch(ws, start + made)
        )
        for world, of, seen in zip(worlds, labels, use, strict=True):
            label = of[world.lineage.founder()[world.uids()]]
            np.add.at(seen, (label, _bins(settings, world)), 1)
    out = []
    for (mix, _), world, of, seen in zip(batch, worlds, labels, use, strict=True):
        counts = np.zeros((len(mix.populations), steps + 1), np.int32)
        found = world.lineage.count(of[world.lineage.founder()], steps)
        counts[: len(found)] = found
        own = np.concatenate([[settings.founders], world.numbers[:, 0]]).astype(np.int32)
        out.append((counts[:, ::every], own[::every], seen))
    return out


def _key(seed: int, mix: Mix, number: int) -> Any:
    word = int.from_bytes(hashlib.sha256(mix.name.encode()).digest()[:4], "little")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), word), number)


def _filled(settings: World, mix: Mix, key: Any) -> tuple[State, np.ndarray]:
    """A world at its start with individuals of the mix, and the label of each founder."""
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    label = np.repeat(np.arange(len(mix.shares)), _sizes(mix.shares, settings.founders))
    # Places are shuffled: where too many divide at once, the lowest places come first.
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
    """Whole numbers that sum to `n`, each at least 1, nearest to the shares (by largest remainder)."""
    exact = np.asarray(shares, float) / np.sum(shares) * n
    sizes = np.maximum(np.floor(exact).astype(int), 1)
    while sizes.sum() != n:
        off = exact - sizes
        i = int(np.argmax(off)) if sizes.sum() < n else int(np.argmin(np.where(sizes > 1, off, np.inf)))
        sizes[i] += 1 if sizes.sum() < n else -1
    return sizes


def _bins(settings: World, world: WorldRun) -> np.ndarray:
    """Bin of each of the living, in the order of `WorldRun.living`: by the chemicals in its cell."""
    state, places = world.state, world.living()
    x, y = (np.asarray(axis)[places].astype(int) % settings.width for axis in (state.x, state.y))
    food = np.searchsorted(_food_edges(settings), np.asarray(state.fields["food"])[x, y], "right")
    if not isinstance(settings, World2):
        return food
    edges = _signal_edges(settings)
    return food * (len(edges) + 1) + np.searchsorted(edges, np.asarray(state.fields["signal"])[x, y], "right")
