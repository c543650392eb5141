"""Worlds run on the cores of this machine: a world is a program's state, a core takes one world after another.

All worlds run the same compiled program one by one, so what a world does cannot depend on how many others there are. On a CPU that
is also the fastest way: a world's arrays fit a core's cache, and cores do not wait for each other.
"""

import dataclasses
import operator
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.cores import available_cores, core_processors
from fairyring.core.errors import EcologyError
from fairyring.core.program import Program
from fairyring.ecology.history.lineage import Lineage
from fairyring.ecology.history.log import happenings
from fairyring.ecology.world import (
    AMOUNTS,
    FEW,
    NUMBERS,
    Log,
    State,
    World,
    founded,
    make_step,
    resized,
    snapshot,
)

CHUNK = 128  # steps a call; more would not be faster, fewer are for those who watch
DECODED = 2048  # steps whose logs are read at once
ADDRESSES = (
    1 << 32
)  # seeds, and worlds of one: keys are made of 32 bits of each, so a larger number would be a smaller one's twin
# XLA drops optimisation barriers before it fuses, unless this pass is left out. Then the step's barriers hold, and it
# is several times as fast. Where there is no such pass the step is slower and the same to the last bits but a few.
OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


@dataclass(frozen=True)
class WorldRun:
    """A world and its history so far.

    Attributes:
        key: of this world, uint32 `[2]`.
        state: its state; arrays of NumPy.
        lineage: everybody who ever lived in it.
        numbers: int32 `[steps, len(NUMBERS)]`.
        amounts: float32 `[steps, len(AMOUNTS)]`.
    """

    key: np.ndarray
    state: State
    lineage: Lineage
    numbers: np.ndarray
    amounts: np.ndarray

    @classmethod
    def new(cls, settings: World, key: Any, state: State | None = None) -> "WorldRun":
        """A world at its start: with founders, or in a given state whose inhabitants are in the first places."""
        state = founded(settings, key) if state is None else state
        return cls(
            key=np.asarray(jax.random.key_data(key)),
            state=state,
            lineage=Lineage.founded(int(np.asarray(state.alive).sum()), settings.capacity),
            numbers=np.zeros((0, len(NUMBERS)), np.int32),
            amounts=np.zeros((0, len(AMOUNTS)), np.float32),
        )

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return len(self.numbers)

    def living(self) -> np.ndarray:
        """Places of those alive."""
        return np.flatnonzero(self.state.alive)

    def uids(self) -> np.ndarray:
        """Numbers of those alive, in the order of `living`."""
        return self.lineage.holder[self.living()]

    def genomes(self) -> np.ndarray:
        """Genomes of those alive, `[population, genes]`."""
        return np.asarray(self.state.genomes)[self.living()]

    def minds(self) -> Any:
        """Minds of those alive, arrays `[population, ...]`."""
        places = self.living()
        return jax.tree.map(lambda rows: np.asarray(rows)[places], self.state.mind)


def world_key(seed: int, number: int) -> Any:
    """The key of a world of a seed.

    Raises:
        EcologyError: as `addressed`.
    """
    return jax.random.fold_in(jax.random.key(addressed("seed", seed)), addressed("world", number))


def addressed(what: str, value: Any) -> int:
    """A seed or the number of a world, as Python's whole number.

    Args:
        what: which of them, as the error says it.
        value: it.

    Raises:
        EcologyError: it is not whole, or not one of the `ADDRESSES`.
    """
    return whole(what, value, 0, ADDRESSES - 1, "Choose another.")


def whole(what: str, value: Any, least: int, most: int, do: str = "Correct it.") -> int:
    """A whole number from `least` to `most`, Python's or NumPy's, as Python's.

    Raises:
        EcologyError: it is none.
    """
    try:
        found = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        found = None
    if found is None or not least <= found <= most:
        given = value if found is not None else repr(value)
        raise EcologyError(what, given=given, expected=f"a whole number from {least} to {most}", do=do)
    return found


@dataclass
class Pace:
    """How long running took: `compiling` seconds apart from `running` seconds."""

    compiling: float = 0.0
    running: float = 0.0


def advance(
    settings: World,
    worlds: Sequence[WorldRun],
    steps: int,
    *,
    cores: int | None = None,
    watch: Callable[[Sequence[WorldRun], int], None] | None = None,
    every: float = 0.5,
    pace: Pace | None = None,
) -> tuple[list[WorldRun], Pace]:
    """Run each world until it has made `steps` steps in all.

    Args:
        settings: of all of them.
        worlds: with which to go on; they are not changed.
        steps: at the end of which each stops; a world that made as many already stays as it is.
        cores: how many to use; all by default.
        watch: called now and then with the worlds as they are and how many steps were made in this call.
        every: how often, in seconds.
        pace: where the time this call takes is noted, up to date whenever `watch` is called; a new one if None.

    Returns:
        The worlds, and how long it took.
    """
    now, pace = list(worlds), Pace() if pace is None else pace
    todo = [i for i, world in enumerate(now) if world.steps < steps]
    if not todo:
        return now, pace
    processors = core_processors(min(len(todo), cores or available_cores()))
    programs = Programs(settings, len(processors))
    start = time.perf_counter()
    programs.load(settings)
    pace.compiling = time.perf_counter() - start
    before = sum(world.steps for world in now)
    queue, turn, stop = iter(todo), threading.Lock(), threading.Event()

    def work(place: int) -> None:
        worker = Worker(settings, place, programs)
        while not stop.is_set():
            with turn:
                i = next(queue, None)
            if i is None:
                return
            for world in worker.until(settings, now[i], steps):
                now[i] = world
                if stop.is_set():
                    return

    start = time.perf_counter()
    with ThreadPoolExecutor(len(processors)) as pool:
        running = {pool.submit(work, place) for place in range(len(processors))}
        try:
            while running:
                done, running = wait(running, timeout=every if watch else None, return_when=FIRST_EXCEPTION)
                for job in done:
                    job.result()
                pace.running = time.perf_counter() - start
                if watch is not None:
                    reached = list(now)
                    watch(reached, sum(world.steps for world in reached) - before)
        finally:
            stop.set()
    pace.running = time.perf_counter() - start
    return now, pace


class Worker:
    """One core, making steps of worlds of one structure.

    Args:
        settings: of the worlds; their numbers may change from call to call.
        place: which core.
        programs: shared with other workers; its own if None.
    """

    def __init__(self, settings: World, place: int, programs: "Programs | None" = None) -> None:
        if programs is None:
            programs = Programs(settings, place + 1)
            programs.load(settings)
        self._programs, self._place = programs, place

    def run(self, settings: World, state: State, key: np.ndarray, steps: int) -> tuple[State, list[Log]]:
        """Some steps: the state after, and their logs in NumPy, `CHUNK` steps of them at most in each."""
        knobs, logs = settings.knobs(), []
        for done in range(0, steps, CHUNK):
            now = min(CHUNK, steps - done)
            state, made = self._programs.run(self._place, state, key, knobs, now)
            logs.append(jax.tree.map(lambda rows, now=now: np.asarray(rows)[:now], made))
        return state, logs

    def until(self, settings: World, world: WorldRun, steps: int) -> Iterator[WorldRun]:
        """The world after each stretch of steps whose logs were read, up to the last one."""
        while world.steps < steps:
            state, logs = self.run(settings, world.state, world.key, min(DECODED, steps - world.steps))
            yield (world := self.recorded(settings, world, state, logs))

    def recorded(self, settings: World, world: WorldRun, state: State, logs: list[Log]) -> WorldRun:
        """The world with what the logs say of the steps since, up to `state`."""
        if not logs:
            return dataclasses.replace(world, state=resized(snapshot(state), settings.capacity))

        def whole(rows: list[np.ndarray]) -> np.ndarray:
            width = max(row.shape[1] for row in rows)
            return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows])

        died, divided, born = (
            whole([getattr(log, name) for log in logs]) for name in ("died", "divided", "born")
        )
        return dataclasses.replace(
            world,
            state=resized(snapshot(state), settings.capacity),
            lineage=world.lineage.after(happenings(world.steps + 1, died, divided, born)),
            numbers=np.concatenate([world.numbers, *(log.numbers for log in logs)]),
            amounts=np.concatenate([world.amounts, *(log.amounts for log in logs)]),
        )


class Programs:
    """The compiled step of worlds of one structure, for all places and for a half and three quarters of them.

    The lowest places are filled first. While the upper ones are empty a program for fewer makes the same steps, to the
    same bits, in less time; a step that finds too few places says so, and is made again by the next one.
    """

    def __init__(self, settings: World, cores: int) -> None:
        self.capacity = settings.capacity
        quarter = -(-settings.capacity // 128) * 32
        fewer = [2 * quarter, 3 * quarter] if settings.capacity >= 1024 else []
        self.sizes = [*fewer, settings.capacity]
        self._of = {size: compiled(settings.structure(), size, cores) for size in self.sizes}

    def load(self, settings: World) -> None:
        """Compile each size's program, at the same time, and load it on each core."""
        state = founded(dataclasses.replace(settings, founders=0), jax.random.key(0))

        def ready(size: int) -> None:
            program, key = self._of[size], np.zeros(2, np.uint32)
            for place in range(len(program.processors)):
                if place not in program.loaded:
                    program(place, resized(state, size), key, settings.knobs(), np.int32(size), np.int32(0))

        with ThreadPoolExecutor(len(self.sizes)) as pool:
            list(pool.map(ready, self.sizes))

    def run(
        self, place: int, state: State, key: np.ndarray, knobs: Mapping[str, np.ndarray], steps: int
    ) -> tuple[State, Log]:
        alive = np.asarray(state.alive)
        high = int(np.flatnonzero(alive)[-1]) + 1 if alive.any() else 0
        size = self._size(high)
        while True:
            fitting = state if len(alive) == size else resized(snapshot(state), size)
            after, logs = self._of[size](place, fitting, key, knobs, np.int32(self.capacity), np.int32(steps))
            if size == self.capacity or not np.asarray(logs.numbers)[:steps, NUMBERS.index("short")].any():
                return after, logs
            size = next(larger for larger in self.sizes if larger > size)

    def _size(self, high: int) -> int:
        return next(size for size in self.sizes if high + FEW <= size or size == self.capacity)


@lru_cache(maxsize=32)
def compiled(structure: World, places: int, cores: int) -> Program:
    """The program that makes up to `CHUNK` steps of a world with so many places: `(state, key, knobs, capacity, steps)
    -> (state, logs [CHUNK, ...])`."""
    step = make_step(structure)

    def chunk(state: State, key: Any, knobs: Any, most: Any, steps: Any) -> tuple[State, Log]:
        shapes = jax.eval_shape(step, state, key, knobs, most)[1]
        logs = jax.tree.map(lambda s: jnp.zeros((CHUNK, *s.shape), s.dtype), shapes)

        def one(i: Any, carried: tuple[State, Log]) -> tuple[State, Log]:
            state, logs = carried
            state, log = step(state, key, knobs, most)
            put = jax.lax.dynamic_update_index_in_dim
            return state, jax.tree.map(lambda rows, row: put(rows, row, i, 0), logs, log)

        return jax.lax.fori_loop(0, steps, one, (state, logs))

    return Program(chunk, core_processors(cores), options=OPTIONS)
