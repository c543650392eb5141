"""The state of a world: what the next step needs, and nothing else.

It does not hold who is whose child. The log of a step holds that in bits (`history/log.py`), and the host keeps the family
tree (`history/lineage.py`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.ecology.world.settings import World

Array = Any  # jax.Array, which type checkers take for a variable


FOUNDING = 0x7FFFFFFF  # stands for the step in the address of random numbers used before the first step


class State(NamedTuple):
    """A struct of arrays with one place per bacterium, occupied or empty. Energies and concentrations are float32."""

    step: Array  # int32, steps made so far
    fields: dict[str, Array]  # concentration [width, width] of each chemical
    places: Array  # of the sources [sources, 2], cells
    alive: Array  # bool [capacity]
    x: Array  # cells [capacity], in [0, width)
    y: Array
    ux: Array  # heading, a unit vector
    uy: Array
    energy: Array
    memory: Array  # leaky mean of the food sensed
    tumbled: Array  # bool [capacity]: what each did in the last step
    emitted: Array
    genomes: Array  # [capacity, genes]
    mind: Any  # of the policy


class Log(NamedTuple):
    """What happened in a step."""

    died: Array  # uint32 words [capacity / 32], one bit per place
    divided: Array  # the parents; the n-th parent has the n-th child
    born: Array  # children and immigrants; children come first, since the lowest free places are filled first
    numbers: Array  # int32 [len(NUMBERS)]
    amounts: Array  # float32 [len(AMOUNTS)]


# Per step. "waiting": parents without a free place; "delayed": parents with one, beyond the number of births that a step
# processes; "unmet": conjugations beyond that number; "short": 1 if the compiled capacity was too small for this step, which
# is then invalid.
NUMBERS = (
    "population", "births", "deaths", "immigrants", "waiting", "delayed", "meetings", "conjugations", "unmet",
    "tumbles", "emitters", "short",
)  # fmt: skip
# Energies at the end of a step, except "eaten", "metabolised" and "deposited", which are flows.
AMOUNTS = ("food", "signal", "eaten", "metabolised", "energy", "deposited")


def empty(settings: World, capacity: int) -> State:
    """A world without bacteria and food, with its sources at the origin, as NumPy arrays."""
    cells, genes = settings.width, settings.genes
    nothing = np.zeros(capacity, np.float32)
    return State(
        step=np.int32(0),
        fields={name: np.zeros((cells, cells), np.float32) for name in settings.chemicals()},
        places=np.zeros((settings.sources, 2), np.float32),
        alive=np.zeros(capacity, bool),
        x=nothing,
        y=nothing,
        ux=nothing + 1,
        uy=nothing,
        energy=nothing,
        memory=nothing,
        tumbled=np.zeros(capacity, bool),
        emitted=np.zeros(capacity, bool),
        genomes=np.zeros((capacity, genes), np.float32),
        mind=jax.tree.map(np.asarray, settings.policy.empty(capacity, settings.states, settings.actions)),
    )


def founded(settings: World, key: Array) -> State:
    """A world at its start: founders with random genomes at random places, and as much food as there is when nobody eats.

    Args:
        settings: of the world.
        key: of this world.
    """
    genome = jax.random.fold_in(jax.random.fold_in(key, FOUNDING), 1)
    return settled(settings, key, np.asarray(jax.random.normal(genome, (settings.founders, settings.genes))))


def settled(settings: World, key: Array, genomes: np.ndarray, minds: Any = None) -> State:
    """A world at its start whose founders have given genomes, at random places and headings.

    Args:
        settings: of the world.
        key: of this world.
        genomes: float32 `[founders, genes]`, at most `capacity` of them.
        minds: of the founders, arrays `[founders, ...]`; None for those that a child of an untrained parent is born with.
    """
    cells, n = settings.width, len(genomes)
    state = empty(settings, settings.capacity)
    where, heading, source = jax.random.split(jax.random.fold_in(key, FOUNDING), 3)
    angle = np.asarray(jax.random.uniform(heading, (n,))) * np.float32(2 * np.pi)
    x, y = np.asarray(jax.random.uniform(where, (2, n), maxval=cells))
    food = settings.food_influx / settings.food_decay / cells**2 if settings.food_decay else 0.0

    def filled(old: np.ndarray, new: Any) -> np.ndarray:
        out = np.array(old)
        out[:n] = new
        return out

    if minds is None:
        knobs = {name: jnp.asarray(value) for name, value in settings.knobs().items()}
        untrained = settings.policy.empty(n, settings.states, settings.actions)
        minds = settings.policy.born(jnp.asarray(genomes), untrained, settings.actions, knobs)
    return state._replace(
        fields=state.fields | {"food": np.full((cells, cells), food, np.float32)},
        places=np.asarray(jax.random.uniform(source, (settings.sources, 2), maxval=cells)),
        alive=filled(state.alive, True),
        x=filled(state.x, x),
        y=filled(state.y, y),
        ux=filled(state.ux, np.cos(angle)),
        uy=filled(state.uy, np.sin(angle)),
        energy=filled(state.energy, settings.start_energy),
        genomes=filled(state.genomes, genomes),
        mind=jax.tree.map(filled, state.mind, minds),
    )


_OF_EACH = ("alive", "x", "y", "ux", "uy", "energy", "memory", "tumbled", "emitted", "genomes", "mind")


def resized(state: State, capacity: int) -> State:
    """The same world with `capacity` places. Places beyond are dropped, so they must be empty."""

    def fit(rows: np.ndarray) -> np.ndarray:
        if len(rows) >= capacity:
            return rows[:capacity]
        return np.concatenate([rows, np.zeros((capacity - len(rows), *rows.shape[1:]), rows.dtype)])

    return _each(state, fit)


def snapshot(state: State) -> State:
    """The state as NumPy arrays, with zeros in empty places, since what the dead leave there means nothing."""
    alive = np.asarray(state.alive)

    def clear(rows: np.ndarray) -> np.ndarray:
        out = np.array(rows)
        out[~alive] = 0
        return out

    return jax.tree.map(np.asarray, _each(state, clear))


def _each(state: State, change: Callable[[np.ndarray], np.ndarray]) -> State:
    """The state with `change` applied to the arrays of individuals, `[capacity, ...]`."""
    return state._replace(
        **{
            name: jax.tree.map(lambda rows: change(np.asarray(rows)), getattr(state, name))
            for name in _OF_EACH
        }
    )
