"""What a bacterium senses. A sense divides one quantity into a few states; the states of all senses together are all that
its brain knows of the world.

A custom sense is a plain function of `Sensed` that returns a state for each bacterium::

    Sense("energy", ("hungry", "sated"), lambda felt: (felt.energy > 1).astype(int))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable


class Sensed(NamedTuple):
    """What can be sensed at the place of each bacterium, before it acts. Arrays are `[capacity]`."""

    food: Array  # concentration, interpolated between the centres of the four nearest cells
    change: Array  # (food - memory) / (food + memory + 0.001), in [-1, 1]
    signal: Array  # concentration, as for food; zero in a world without a signal
    energy: Array
    knobs: Mapping[str, Array]  # the numbers of the world's settings, by name

    @classmethod
    def example(cls, count: int = 1, **fields: Any) -> "Sensed":
        """What `count` bacteria sense without food and signal, with an energy of 1, to try a sense without a world.

        Args:
            count: how many.
            fields: values that differ, each a number for all bacteria or one for each; `knobs` as `World.knobs` gives it.

        Raises:
            TypeError: there is no such field.
        """
        defaults = {"food": 0.0, "change": 0.0, "signal": 0.0, "energy": 1.0}
        knobs = fields.pop("knobs", {})
        if unknown := fields.keys() - defaults.keys():
            raise TypeError(f"Sensed has no field {min(unknown)!r}; it has {', '.join(cls._fields)}")
        rows = {
            name: jnp.broadcast_to(jnp.asarray(value), count) for name, value in (defaults | fields).items()
        }
        return cls(**rows, knobs=knobs)


@dataclass(frozen=True)
class Sense:
    """One sense.

    Args:
        name: of the sensed quantity.
        labels: of the states, in order.
        feel: `Sensed -> [capacity]`, the index of the state, whole numbers in `[0, len(labels))`.
    """

    name: str
    labels: tuple[str, ...]
    feel: Callable[[Sensed], Array]


def states_of(senses: tuple[Sense, ...]) -> int:
    """Number of states of all senses together."""
    return prod(len(sense.labels) for sense in senses)


def state(senses: tuple[Sense, ...], felt: Sensed) -> Array:
    """The states of all senses as one index; the state of the last sense varies fastest."""
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
