"""What a bacterium feels: each sense cuts one quantity into a few states, and the states of all senses together are
what its brain knows of the world.

A sense of one's own is a plain function of `Sensed` that gives a state each::

    Sense("energy", ("hungry", "sated"), lambda felt: (felt.energy > 1).astype(int))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable


class Sensed(NamedTuple):
    """What is there to be felt at the place of each bacterium, before it acts. Arrays are `[capacity]`."""

    food: Array  # concentration, between the four nearest cells' centres
    change: Array  # (food - memory) / (food + memory + 0.001), in [-1, 1]
    signal: Array  # concentration, as food; zero where the world has no signal
    energy: Array
    knobs: Mapping[str, Array]  # the numbers of the world's settings


@dataclass(frozen=True)
class Sense:
    """One sense.

    Args:
        name: of what is felt.
        labels: of its states, in order; as many as there are states.
        feel: `Sensed -> [capacity]`, the state's index, whole numbers in `[0, len(labels))`.
    """

    name: str
    labels: tuple[str, ...]
    feel: Callable[[Sensed], Array]


def states_of(senses: tuple[Sense, ...]) -> int:
    """How many states all senses together have."""
    return prod(len(sense.labels) for sense in senses)


def state(senses: tuple[Sense, ...], felt: Sensed) -> Array:
    """All senses' states as one index; the last sense's state counts fastest."""
    index = jnp.zeros(felt.food.shape, jnp.int32)
    for sense in senses:
        index = index * len(sense.labels) + sense.feel(felt).astype(jnp.int32)
    return index


def _level(felt: Sensed) -> Array:
    low, high = felt.knobs["level_low"], felt.knobs["level_high"]
    return (felt.food >= low).astype(jnp.int32) + (felt.food >= high)


def _change(felt: Sensed) -> Array:
    step = felt.knobs["change_threshold"]
    return 1 - (felt.change < -step).astype(jnp.int32) + (felt.change > step)


def _signal(felt: Sensed) -> Array:
    return (felt.signal > felt.knobs["signal_threshold"]).astype(jnp.int32)


LEVEL = Sense("food", ("scarce", "some", "plenty"), _level)
CHANGE = Sense("change", ("falling", "flat", "rising"), _change)
SIGNAL = Sense("signal", ("none", "sensed"), _signal)
