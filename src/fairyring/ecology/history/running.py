"""Running worlds on the cores of this machine. A world is the state of a program; a core runs one world after another.

All worlds run the same compiled program, one at a time, so a world cannot depend on how many others there are. On a CPU this
is also the fastest way: the arrays of one world fit a core's cache, and cores do not wait for each other.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core import checks
from fairyring.core.cores import available_cores, core_processors
from fairyring.core.errors import EcologyError
from fairyring.core.interrupts import POLL, interruptible, interruptible_pool
from fairyring.core.numbers import literal_numbers
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

CHUNK = 128  # steps per call; more would not be faster
DECODED = 2048  # steps whose logs are decoded at once
# Possible seeds, and worlds of one seed. A key uses 32 bits of each, so a larger number would alias a smaller one.
ADDRESSES = 1 << 32
# XLA drops optimisation barriers before fusion unless this pass is disabled. With the barriers the step is several times as
# fast. In a version of XLA without the pass the step is slower, and differs in the last bits.
OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


@dataclass(frozen=True)
class WorldRun:
    """A world and its history so far.

    Attributes:
        key: of this world, uint32 `[2]`.
        state: its state, as NumPy arrays.
        lineage: every individual that ever lived in it.
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
        """A world at its start: with founders, or in a given state whose individuals are in the first places."""
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
        """Places of the living, in rising order."""
        return np.flatnonzero(self.state.alive)

    def uids(self) -> np.ndarray:
        """Uids of the living, in the order of `living`."""
        return self.lineage.holder[self.living()]

    def genomes(self) -> np.ndarray:
        """Genomes of the living, `[population, genes]`."""
        return np.asarray(self.state.genomes)[self.living()]

    def minds(self) -> Any:
        """Minds of the living, arrays `[population, ...]`."""
        places = self.living()
        return jax.tree.map(lambda rows: np.asarray(rows)[places], self.state.mind)


def world_key(seed: int, number: int) -> Any:
    """The random key of a world.

    Raises:
        EcologyError: as `addressed`.
    """
    return jax.random.fold_in(jax.random.key(addressed("seed", seed)), addressed("world", number))


def addressed(what: str, value: Any) -> int:
    """A seed or the number of a world, checked, as a Python int.

    Args:
        what: "seed" or "world", for the error.
        value: to be checked.

    Raises:
        EcologyError: it is not a whole number from 0 to 2**32 - 1.
    """
    return whole_number(what, value, 0, ADDRESSES - 1, "Choose another.")


def whole_number(what: str, value: Any, least: int, largest: int, do: str = "Give one that is.") -> int:
    """A whole number of Python or NumPy from `least` to `largest`, as a Python int.

    Raises:
        EcologyError: it is not one.
    """
    return checks.whole_number(what, value, least=least, most=largest, do=do, error=EcologyError)


@dataclass
class Pace:
    """Seconds spent compiling, and seconds spent running."""

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
        settings: of all worlds.
        worlds: to continue; they are not changed.
        steps: in all; a world that has made as many already stays as it is.
        cores: how many to use; all by default.
        watch: called now and then with the worlds so far and the number of steps made in this call.
        every: how often `watch` is called, in seconds.
        pace: takes up the time that this call spends, and is current whenever `watch` is called; a new one if None.

    Returns:
        The worlds, and the time that was spent.
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
    with interruptible_pool(len(processors)) as pool:
        running = {pool.submit(work, place) for place in range(len(processors))}
        try:
            while running:
                done, running = wait(running, timeout=every if watch else POLL, return_when=FIRST_EXCEPTION)
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
    """Runs worlds of one structure on one core.

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
        """Make some steps: the state after them, and their logs as NumPy arrays, each of at most `CHUNK` steps."""
        knobs, logs = settings.knobs(), []
        for done in range(0, steps, CHUNK):
            now = min(CHUNK, steps - done)
            state, log = self._programs.run(self._place, state, key, knobs, now)
            logs.append(jax.tree.map(lambda rows, now=now: np.asarray(rows)[:now], log))
        return state, logs

    def until(self, settings: World, world: WorldRun, steps: int) -> Iterator[WorldRun]:
        """The world after each stretch of `DECODED` steps, up to the last one."""
        while world.steps < steps:
            state, logs = self.run(settings, world.state, world.key, min(DECODED, steps - world.steps))
            yield (world := self.recorded(settings, world, state, logs))

    def recorded(self, settings: World, world: WorldRun, state: State, logs: list[Log]) -> WorldRun:
        """The world at `state`, its history extended by the logs of the steps since."""
        if not logs:
            return dataclasses.replace(world, state=resized(snapshot(state), settings.capacity))

        def joined(rows: list[np.ndarray]) -> np.ndarray:
            width = max(row.shape[1] for row in rows)
            return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows])

        died, divided, born = (
            joined([getattr(log, name) for log in logs]) for name in ("died", "divided", "born")
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

    The lowest places are filled first. While the upper ones are empty, a program for fewer places makes the same steps to
    the same bits in less time. A step that runs out of places reports it, and the next larger program repeats it.
    """

    def __init__(self, settings: World, cores: int) -> None:
        self.capacity = settings.capacity
        quarter = -(-settings.capacity // 128) * 32
        fewer = [2 * quarter, 3 * quarter] if settings.capacity >= 1024 else []
        self.sizes = [*fewer, settings.capacity]
        self._of = {size: compiled(settings.structure(), size, cores) for size in self.sizes}

    def load(self, settings: World) -> None:
        """Compile the programs of all sizes in parallel, and load them on each core."""
        state = founded(dataclasses.replace(settings, founders=0), jax.random.key(0))

        def ready(size: int) -> None:
            program, key = self._of[size], np.zeros(2, np.uint32)
            for place in range(len(program.processors)):
                if not program.loaded[place]:
                    program(place, resized(state, size), key, settings.knobs(), np.int32(size), np.int32(0))

        interruptible(*(partial(ready, size) for size in self.sizes))

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
    """The program that makes up to `CHUNK` steps of a world with so many places.

    Its signature is `(state, key, knobs, capacity, steps) -> (state, logs [CHUNK, ...])`.
    """
    step = make_step(structure)

    def chunk(state: State, key: Any, knobs: Any, capacity: Any, steps: Any) -> tuple[State, Log]:
        shapes = jax.eval_shape(step, state, key, knobs, capacity)[1]
        logs = jax.tree.map(lambda s: jnp.zeros((CHUNK, *s.shape), s.dtype), shapes)

        def one(i: Any, carried: tuple[State, Log]) -> tuple[State, Log]:
            state, logs = carried
            state, log = step(state, key, knobs, capacity)
            put = jax.lax.dynamic_update_index_in_dim
            return state, jax.tree.map(lambda rows, row: put(rows, row, i, 0), logs, log)

        return jax.lax.fori_loop(0, steps, one, (state, logs))

    return Program(literal_numbers(chunk), core_processors(cores), options=OPTIONS)
