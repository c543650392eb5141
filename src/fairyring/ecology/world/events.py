"""What can happen to a bacterium in a step. A policy that learns inherits a reward for each event.

A custom event is a plain function of `Happened` that returns a number for each bacterium, 0 if it did not happen::

    Event("crowded", lambda happened: happened.neighbours > 3)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable


class Happened(NamedTuple):
    """What happened to each bacterium in a step, as known at its end. Arrays are `[capacity]`."""

    uptake: Array  # energy eaten, over `uptake_limit`
    energy: Array
    food: Array  # as sensed before it acted
    change: Array  # of food, as sensed then
    signal: Array  # as sensed
    tumbled: Array  # bool
    emitted: Array  # bool
    neighbours: Array  # number of others in its cell
    deaths: Array  # number of deaths in its cell
    divided: Array  # bool: it divided in this step
    alive: Array  # bool: False in the step in which it dies
    chance: Array  # uniform in [0, 1), independent of everything else
    knobs: Mapping[str, Array]  # the numbers of the world's settings, by name

    @classmethod
    def example(cls, count: int = 1, **fields: Any) -> "Happened":
        """A step of `count` bacteria that live and to which nothing happens, to try an event without a world.

        Args:
            count: how many.
            fields: values that differ, each a number for all bacteria or one for each; `knobs` as `World.knobs` gives it.

        Raises:
            TypeError: there is no such field.
        """
        defaults = dict.fromkeys(cls._fields, 0.0) | dict.fromkeys(("tumbled", "emitted", "divided"), False)
        defaults |= {"energy": 1.0, "alive": True, "neighbours": 0, "deaths": 0, "chance": 0.5}
        knobs = fields.pop("knobs", {})
        if unknown := fields.keys() - defaults.keys():
            raise TypeError(f"Happened has no field {min(unknown)!r}; it has {', '.join(cls._fields)}")
        rows = {
            name: jnp.broadcast_to(jnp.asarray(value), count)
            for name, value in (defaults | fields).items()
            if name != "knobs"
        }
        return cls(**rows, knobs=knobs)


@dataclass(frozen=True)
class Event:
    """One kind of event.

    Args:
        name: of the event, in reports and run files.
        happens: `Happened -> [capacity]`, booleans or numbers of order one.
    """

    name: str
    happens: Callable[[Happened], Array]


def values(events: tuple[Event, ...], happened: Happened) -> list[Array]:
    """Each event as float32 `[capacity]`."""
    return [jnp.asarray(event.happens(happened)).astype(jnp.float32) for event in events]


HUNGRY, SATED, NEAR_DEATH = 0.6, 1.4, 0.15  # energies
CHANCE = 0.1  # probability of the dummy event in a step; half the time it is 1, half the time -1

ALIVE = Event("alive", lambda happened: jnp.ones_like(happened.energy))
EAT = Event("eat", lambda happened: happened.uptake)
HUNGER = Event("hungry", lambda happened: happened.energy < HUNGRY)
SATIATION = Event("sated", lambda happened: happened.energy > SATED)
SIGNALLED = Event("signal", lambda happened: happened.signal > happened.knobs["signal_threshold"])
EMITTED = Event("emitted", lambda happened: happened.emitted)
ENCOUNTER = Event("encounter", lambda happened: happened.neighbours > 0)
DIVIDED = Event("divided", lambda happened: happened.divided)
DYING = Event("near death", lambda happened: happened.energy < NEAR_DEATH)
# The null of every reward that evolves. No behaviour changes it, and it is as often 1 as -1, so a reward for it has the same
# effect as the opposite reward. (An event that is always 1 would be no null: a reward that comes whatever one does favours
# repeating the last action.)
DUMMY = Event("dummy", lambda happened: (happened.chance < CHANCE) * jnp.sign(CHANCE / 2 - happened.chance))

STANDARD = (ALIVE, EAT, HUNGER, SATIATION, SIGNALLED, EMITTED, ENCOUNTER, DIVIDED, DYING, DUMMY)

RISING = Event("food rising", lambda happened: happened.change > happened.knobs["change_threshold"])
# Selectively neutral: what is learned from it dies with the learner.
DEATH = Event("death", lambda happened: ~happened.alive)
DEATH_NEARBY = Event("death nearby", lambda happened: happened.alive & (happened.deaths > 0))

OPTIONAL = (RISING, DEATH, DEATH_NEARBY)
