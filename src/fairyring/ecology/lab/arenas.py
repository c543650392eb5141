"""The lab: individuals taken out of their world into a field that nothing changes, and watched.

Where a population lives, births happen on food, so even a blind one looks attracted to it. In the lab nobody eats, is born,
dies or learns, and no field spreads or decays; all else is the world's own step, by the same program.
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
# Concentrations at the crest and half a torus away: food that one can live on. The profile is what decay and diffusion make of a line or a point that feeds a field, an exponential, so there is a
# slope everywhere. Far below, or where nothing changes, nobody lives for long; what a genome says of such places is hardly selected, and
# an immortal one in the lab could stand still there for ever.
PEAK, EDGE = 1.0, 0.03


@dataclass(frozen=True)
class Arena:
    """What the lab's fields are.

    Args:
        food, signal: the shape of each.
        sensing: False: what is felt is an arena without food and signal, while indices are of the one that is shown;
            whatever senses of them there are, they never change.
    """

    food: Shape = "ridge"
    signal: Shape | None = None
    sensing: bool = True


@dataclass(frozen=True)
class Tracks:
    """What was seen: arrays `[steps, individuals]`.

    Attributes:
        x, y: where each was before its step, cells.
        level, change: what it then felt of food, 0 to 2 each.
        tumbled, emitted: what it then did.
        dx: how far it then went along x, cells.
        food, signal: the lab's fields `[width, width]`.
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
        """Those of some individuals."""
        each = ("x", "y", "level", "change", "tumbled", "emitted", "dx")
        return dataclasses.replace(self, **{name: getattr(self, name)[:, which] for name in each})


def field(shape: Shape, cells: int) -> np.ndarray:
    """A static field `[cells, cells]`: a ridge along y or a patch, both about the middle, or flat."""
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
    """Put individuals anywhere in an arena and watch them.

    Args:
        settings: of their world.
        genomes: `[individuals, genes]`.
        minds: of the policy, arrays `[individuals, ...]`; what was learned stays as it is.
        arena: where.
        key: of what is random here.
        steps: how long.
        core: which core does it.
    """
    n, cells = len(genomes), settings.width
    still = _still(settings)
    where, heading, run = jax.random.split(key, 3)
    x, y = _spread_out(where, n, cells)
    angle = np.asarray(jax.random.uniform(heading, (n,))) * np.float32(2 * np.pi)
    food = field(arena.food, cells)
    signal = None if arena.signal is None else field(arena.signal, cells)
    state = empty(still, still.capacity)
    there = (
        {} if not arena.sensing else {"food": food} if signal is None else {"food": food, "signal": signal}
    )
    fields = state.fields | there

    def filled(old: Any, new: Any) -> np.ndarray:
        out = np.array(old)
        out[:n] = new
        return out

    felt = _feeling(settings)
    state = state._replace(
        fields=fields,
        alive=filled(state.alive, True),
        x=filled(state.x, x),
        y=filled(state.y, y),
        ux=filled(state.ux, np.cos(angle)),
        uy=filled(state.uy, np.sin(angle)),
        energy=filled(state.energy, still.start_energy),
        memory=filled(
            state.memory, np.asarray(felt(fields["food"], x, y))
        ),  # long enough here to be used to it
        genomes=filled(state.genomes, genomes),
        mind=jax.tree.map(filled, state.mind, minds),
    )
    program = compiled(still.structure(), still.capacity, len(core_processors(core + 1)))
    data, knobs, most = np.asarray(jax.random.key_data(run)), still.knobs(), np.int32(still.capacity)
    seen = []
    for _ in range(steps):
        before = state
        state, _ = program(core, state, data, knobs, most, np.int32(1))
        seen.append(
            [
                np.asarray(rows)[:n]
                for rows in (before.x, before.y, before.memory, state.tumbled, state.emitted, state.x)
            ]
        )
    xs, ys, memory, tumbled, emitted, after = (np.stack(rows) for rows in zip(*seen, strict=True))
    level, change = _states(settings, felt, food, xs, ys, memory)
    dx = (after - xs + cells / 2) % cells - cells / 2
    return Tracks(xs, ys, level, change, tumbled, emitted, dx, food, signal)


def _spread_out(key: Any, n: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Places, each anywhere, but along either axis one in each n-th of the way (a Latin hypercube; McKay et al. 1979):
    some start far from the food and some near, in the same shares each time."""
    at = []
    for axis in jax.random.split(key, 2):
        order, within = jax.random.split(axis)
        each = jax.random.permutation(order, n) + jax.random.uniform(within, (n,))
        at.append(
            np.minimum(np.asarray(each * (cells / n)), np.float32(cells * (1 - 1e-6))).astype(np.float32)
        )
    return at[0], at[1]


def _still(settings: World) -> World:
    """Settings under which nothing changes but places and headings. Of the same structure, so the program is the same; who
    was blind stays blind."""
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


@lru_cache(maxsize=4)
def _feeling_at(cells: int) -> Any:
    return jax.jit(grid.felt)


def _feeling(settings: World) -> Any:
    return _feeling_at(settings.width)


def _states(settings: World, felt: Any, food: np.ndarray, x: np.ndarray, y: np.ndarray, memory: np.ndarray):
    """Level and change as the standard senses have them, whatever senses the world has."""
    shape = x.shape
    here = np.asarray(felt(food, x.reshape(-1), y.reshape(-1))).reshape(shape)
    change = (here - memory) / (here + memory + 1e-3)
    knobs = settings.knobs()
    told = senses.Sensed(food=here, change=change, signal=here * 0, energy=here * 0, knobs=knobs)
    return np.asarray(senses.LEVEL.feel(told)), np.asarray(senses.CHANGE.feel(told))
