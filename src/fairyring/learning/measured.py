"""The loss and the metrics of training as they travel: as coordinates of a client's message, and back.

A measure with the weights of the examples travels as its mean over the client's examples, and the weighting stage makes the mean over
clients of it. That of a measure with weights of its own, such as recall, would not be the mean over all examples. So two numbers
travel: the sum of its weighted values and the sum of its weights, each divided by the sum of the examples' weights. Both are averaged
over clients, and their quotient is recorded. Where clients count by their examples, it is the mean over the examples of all clients.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairyring.aggregation.contract import Auxiliary
from fairyring.task import Task

TINY = 1e-12


class Measured(NamedTuple):
    """What is measured in training: the loss first, then each metric of a task.

    Attributes:
        names: of the measures.
        bounds: the largest value of each.
        weight_bounds: the largest weight of each as a multiple of the example's; None for one with the weights of the examples.
    """

    names: tuple[str, ...]
    bounds: tuple[float, ...]
    weight_bounds: tuple[float | None, ...]

    @classmethod
    def of(cls, task: Task) -> "Measured":
        """What a task measures."""
        metrics = task.metrics.values()
        return cls(
            ("loss", *task.metrics),
            (task.loss_bound, *(metric.bound for metric in metrics)),
            (task.loss_weight_bound, *(metric.weight_bound for metric in metrics)),
        )

    @property
    def totals(self) -> int:
        """The length of an objective's totals: see `fairyring.learning.client.Objective`."""
        return 2 * len(self.names) + 1

    @property
    def coordinates(self) -> tuple[Auxiliary, ...]:
        """What travels, with its bounds: one coordinate for a measure with the weights of the examples, otherwise two."""
        found: list[Auxiliary] = []
        for name, bound, most in zip(*self, strict=True):
            if most is None:
                found.append(Auxiliary(name, bound))
            else:
                largest = 0.0 if 0 in (bound, most) else bound * most
                found += [
                    Auxiliary(f"{name} times its weight", largest),
                    Auxiliary(f"weight of {name}", most),
                ]
        return tuple(found)

    def coordinates_of(self, totals: jax.Array) -> jax.Array:
        """The coordinates of examples with these totals: float32 `[len(coordinates)]`."""
        if all(most is None for most in self.weight_bounds):
            return totals[:-1:2] / jnp.maximum(totals[1::2], TINY)
        examples = jnp.maximum(totals[-1], TINY)
        found: list[jax.Array] = []
        for place, most in enumerate(self.weight_bounds):
            value, weight = totals[2 * place], totals[2 * place + 1]
            found += (
                [value / jnp.maximum(weight, TINY)] if most is None else [value / examples, weight / examples]
            )
        return jnp.stack(found)

    def totals_of(self, weight: jax.Array, coordinates: jax.Array) -> jax.Array:
        """Totals with these coordinates, of examples whose weights have this sum: float32 `[totals]`."""
        if all(most is None for most in self.weight_bounds):
            pairs = jnp.stack([weight * coordinates, jnp.broadcast_to(weight, coordinates.shape)], axis=1)
            return jnp.concatenate([pairs.ravel(), weight[None]])
        found: list[jax.Array] = []
        place = 0
        for most in self.weight_bounds:
            found += [
                weight * coordinates[place],
                weight if most is None else weight * coordinates[place + 1],
            ]
            place += 1 if most is None else 2
        return jnp.stack([*found, weight])

    def values(self, means: Sequence[float], *, holds_bounds: bool) -> list[float]:
        """The value of each measure from the means of the coordinates over clients; NaN where no weight is left.

        Args:
            means: `[len(coordinates)]`.
            holds_bounds: cut quotients to their range, because whole numbers were added, or noise.
        """
        found: list[float] = []
        rest = iter(means)
        for bound, most in zip(self.bounds, self.weight_bounds, strict=True):
            value = float(next(rest))
            if most is not None:
                weight = float(next(rest))
                value = value / weight if weight > 0 else math.nan
                if holds_bounds and not math.isnan(value):
                    value = min(max(value, 0.0), bound)
            found.append(value)
        return found

    def deviations(
        self, means: Sequence[float], deviations: Sequence[float], values: Sequence[float]
    ) -> list[float]:
        """The standard deviation of the noise in each value: of a quotient to first order, NaN where no weight is left.

        Args:
            means: of the coordinates.
            deviations: of the noise in each of them.
            values: of the measures.
        """
        found: list[float] = []
        rest = iter(zip(means, deviations, strict=True))
        for value, most in zip(values, self.weight_bounds, strict=True):
            deviation = float(next(rest)[1])
            if most is not None:
                weight, of_weight = next(rest)
                deviation = math.hypot(deviation, value * of_weight) / weight if weight > 0 else math.nan
            found.append(deviation)
        return found
