"""What can happen to a bacterium in a step: what its inherited rewards, if it has any, put a value on.

An event of one's own is a plain function of `Happened` that gives a number each, 0 where it did not happen::

    Event("crowded", lambda happened: happened.neighbours > 3)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable


class Happened(NamedTuple):
    """What happened to each bacterium in a step, at its end. Arrays are `[capacity]`."""

    uptake: Array  # energy eaten, over the most one can eat in a step
    energy: Array
    food: Array  # as sensed before it acted
    change: Array  # of food, as sensed
    signal: Array  # as sensed
    tumbled: Array  # bool
    emitted: Array  # bool
    neighbours: Array  # how many others were in its cell
    deaths: Array  # how many died in its cell
    divided: Array  # bool: it has just become two
    alive: Array  # bool: False in the step in which it dies
    chance: Array  # uniform in [0, 1), of nothing
    knobs: Mapping[str, Array]  # the numbers of the world's settings


@dataclass(frozen=True)
class Event:
    """One kind of event.

    Args:
        name: of it.
        happens: `Happened -> [capacity]`, booleans or numbers of about one.
    """

    name: str
    happens: Callable[[Happened], Array]


def values(events: tuple[Event, ...], happened: Happened) -> list[Array]:
    """Each event as float32 `[capacity]`."""
    return [jnp.asarray(event.happens(happened)).astype(jnp.float32) for event in events]


HUNGRY, SATED, NEAR_DEATH = 0.6, 1.4, 0.15  # energies
CHANCE = 0.1  # how often the dummy event happens, as 1 half the time and as -1

ALIVE = Event("alive", lambda happened: jnp.ones_like(happened.energy))
EAT = Event("eat", lambda happened: happened.uptake)
HUNGER = Event("hungry", lambda happened: happened.energy < HUNGRY)
SATIATION = Event("sated", lambda happened: happened.energy > SATED)
SIGNALLED = Event("signal", lambda happened: happened.signal > happened.knobs["signal_threshold"])
EMITTED = Event("emitted", lambda happened: happened.emitted)
ENCOUNTER = Event("encounter", lambda happened: happened.neighbours > 0)
DIVIDED = Event("divided", lambda happened: happened.divided)
DYING = Event("near death", lambda happened: happened.energy < NEAR_DEATH)
# The null of every reward that evolves. Nothing that anybody does changes it, and it is as often 1 as -1, so a reward for it
# does what its opposite does. (One that is always 1 is no null: a reward that comes often, whatever one does, pays for
# going on with what one does.)
DUMMY = Event("dummy", lambda happened: (happened.chance < CHANCE) * jnp.sign(CHANCE / 2 - happened.chance))

STANDARD = (ALIVE, EAT, HUNGER, SATIATION, SIGNALLED, EMITTED, ENCOUNTER, DIVIDED, DYING, DUMMY)

RISING = Event("food rising", lambda happened: happened.change > happened.knobs["change_threshold"])
# Selectively neutral: the table that learns from it dies with whoever learned.
DEATH = Event("death", lambda happened: ~happened.alive)
DEATH_NEARBY = Event("death nearby", lambda happened: happened.alive & (happened.deaths > 0))

OPTIONAL = (RISING, DEATH, DEATH_NEARBY)
