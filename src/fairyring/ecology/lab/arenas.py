"""Arenas of the lab: individuals are taken out of their world, put into a static field, and tracked.

In a living population births happen on food, so even a blind population looks attracted to it. In an arena nobody eats, is
born, dies or learns, and no field spreads or decays. Everything else is the world's own step, run by the same program.
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import jax
import numpy as np

from fairyring.core.cores import core_processors
from fairyring.ecology.history import compiled
from fairyring.ecology.world import World, empty, grid, senses

Shape = Literal["ridge", "patch", "flat"]
# Concentrations at the crest and half a torus away: food that a bacterium can live on. The profile is exponential, like the
# steady state of decay and diffusion around a source, so it slopes everywhere. At much lower concentrations, or without a
# slope, nobody lives for long. So behaviour there is hardly under selection, and an individual that cannot die might stand
# still there for ever.
PEAK, EDGE = 1.0, 0.03


@dataclass(frozen=True)
class Arena:
    """The fields of an arena.

    Args:
        food, signal: shape of each field.
        sensing: if False, individuals sense an arena without food and signal, so their observations never change; tracks
            still hold the fields as given.
    """

    food: Shape = "ridge"
    signal: Shape | None = None
    sensing: bool = True


@dataclass(frozen=True)
class Tracks:
    """Tracks of individuals in an arena: arrays `[steps, individuals]`.

    Attributes:
        x, y: position before the step, cells.
        level, change: states of food sensed in the step, 0 to 2 each.
        tumbled, emitted: actions in the step.
        dx: displacement along x in the step, cells.
        food, signal: the fields `[width, width]`.
    """

    x: np.ndarray
    y: np.ndarray
    level: np.ndarray
    change: np.ndarray
    tumbled: np.ndarray
    emitted: np.ndarray
    dx: np.ndarray
    food: np.ndarray
    signal: np.ndarray | None

    def of(self, which: slice) -> "Tracks":
        """The tracks of some individuals."""
        each = ("x", "y", "level", "change", "tumbled", "emitted", "dx")
        return dataclasses.replace(self, **{name: getattr(self, name)[:, which] for name in each})


def field(shape: Shape, cells: int) -> np.ndarray:
    """A static field `[cells, cells]`: a ridge along y or a patch, both centred, or flat."""
    away = np.abs(np.arange(cells) + 0.5 - cells / 2)
    distances = {
        "ridge": away[:, None] + 0 * away,
        "patch": np.hypot(away[:, None], away),
        "flat": np.zeros((cells, cells)),
    }
    return (PEAK * (EDGE / PEAK) ** (distances[shape] / (cells / 2))).astype(np.float32)


def watch(
    settings: World,
    genomes: np.ndarray,
    minds: Any,
    arena: Arena,
    *,
    key: Any,
    steps: int,
    core: int = 0,
) -> Tracks:
    """Put individuals at random places in an arena and track them.

    Args:
        settings: of their world.
        genomes: `[individuals, genes]`.
        minds: of the policy, arrays `[individuals, ...]`; they do not change.
        arena: the fields.
        key: random key.
        steps: how many.
        core: that runs the program.
    """
    n, cells = len(genomes), settings.width
    still = _still(settings)
    where, heading, run = jax.random.split(key, 3)
    x, y = _spread_out(where, n, cells)
    angle = np.asarray(jax.random.uniform(heading, (n,))) * np.float32(2 * np.pi)
    food = field(arena.food, cells)
    signal = None if arena.signal is None else field(arena.signal, cells)
    state = empty(still, still.capacity)
    fields = state.fields
    if arena.sensing:
        fields = fields | {"food": food} | ({} if signal is None else {"signal": signal})

    def filled(old: Any, new: Any) -> np.ndarray:
        out = np.array(old)
        out[:n] = new
        return out

    felt = _felt()
    state = state._replace(
        fields=fields,
        alive=filled(state.alive, True),
        x=filled(state.x, x),
        y=filled(state.y, y),
        ux=filled(state.ux, np.cos(angle)),
        uy=filled(state.uy, np.sin(angle)),
        energy=filled(state.energy, still.start_energy),
        memory=filled(state.memory, np.asarray(felt(fields["food"], x, y))),  # adapted to the place
        genomes=filled(state.genomes, genomes),
        mind=jax.tree.map(filled, state.mind, minds),
    )
    program = compiled(still.structure(), still.capacity, len(core_processors(core + 1)))
    data, knobs, capacity = np.asarray(jax.random.key_data(run)), still.knobs(), np.int32(still.capacity)
    observed = []
    for _ in range(steps):
        before = state
        state, _ = program(core, state, data, knobs, capacity, np.int32(1))
        observed.append(
            [
                np.asarray(rows)[:n]
                for rows in (before.x, before.y, before.memory, state.tumbled, state.emitted, state.x)
            ]
        )
    xs, ys, memory, tumbled, emitted, after = (np.stack(rows) for rows in zip(*observed, strict=True))
    level, change = _states(settings, felt, food, xs, ys, memory)
    dx = (after - xs + cells / 2) % cells - cells / 2
    return Tracks(xs, ys, level, change, tumbled, emitted, dx, food, signal)


def _spread_out(key: Any, n: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Random points with one in each n-th of either axis (a Latin hypercube; McKay et al. 1979).

    So the shares that start far from the food and near it are the same each time.
    """
    at = []
    for axis in jax.random.split(key, 2):
        order, within = jax.random.split(axis)
        each = jax.random.permutation(order, n) + jax.random.uniform(within, (n,))
        at.append(
            np.minimum(np.asarray(each * (cells / n)), np.float32(cells * (1 - 1e-6))).astype(np.float32)
        )
    return at[0], at[1]


def _still(settings: World) -> World:
    """Settings under which only positions and headings change.

    Their structure is the same, so the program is too. The control "blind" stays in force.
    """
    still: dict[str, Any] = {
        f"{name}_{what}": 0.0 for name in settings.chemicals() for what in ("decay", "diffusion")
    }
    still |= {
        "food_influx": 0.0,
        "uptake_rate": 0.0,
        "basal_cost": 0.0,
        "conjugation": 0.0,
        "minimum": 0,
        "founders": 0,
    }
    still |= {"division_energy": 1e30}
    if "signal" in settings.chemicals():
        still |= {"emission_cost": 0.0, "emission": 0.0, "alpha": 0.0}
    return dataclasses.replace(settings, **still)


@lru_cache(maxsize=1)
def _felt() -> Any:
    return jax.jit(grid.felt)


def _states(settings: World, felt: Any, food: np.ndarray, x: np.ndarray, y: np.ndarray, memory: np.ndarray):
    """Level and change by the standard senses, whatever senses the world has."""
    shape = x.shape
    here = np.asarray(felt(food, x.reshape(-1), y.reshape(-1))).reshape(shape)
    change = (here - memory) / (here + memory + 1e-3)
    knobs = settings.knobs()
    sensed = senses.Sensed(food=here, change=change, signal=here * 0, energy=here * 0, knobs=knobs)
    return np.asarray(senses.LEVEL.feel(sensed)), np.asarray(senses.CHANGE.feel(sensed))
