"""Local training with noise in every step: DP-SGD (Abadi and others 2016), a round in small whose clients are examples.

The stages of a plan's aggregation serve here as they do there. Each example's gradient, with its loss and metrics beside it, is
clipped and rounded to whole numbers whose joint norm is known for certain; those of a batch are added, whole-number noise
is added to the sum, and what is decoded from that is all that training goes on with. Batches and noise are drawn outside of
the compiled program: `fairyring.privacy.source`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.aggregation.contract import BoundStage, Message
from fairyring.core.keys import Purpose
from fairyring.core.vector import Layout
from fairyring.learning.local import LocalTraining

Tree = Any
Array = Any  # of NumPy before a program is called, of JAX within
Columns = Mapping[str, jax.Array]
# `(params, batch, mask, key) -> (gradient, totals)`; totals: (value, weight) of loss and metrics, then the weights.
GradientOf = Callable[..., tuple[Tree, jax.Array]]

TINY = 1e-12


class Drawn(NamedTuple):
    """What a client draws for a round before it trains.

    Attributes:
        noise: of every step: int32 `[steps, coordinates]`.
        batches: places of the examples in every step's batch, then -1: int32 `[steps, room]`, the room of a batch that holds
            all examples. `[0, room]` where batches are not Poisson samples: cut from an order of the examples.
    """

    noise: Array
    batches: Array


class Shapes(NamedTuple):
    """In which shapes noisy steps are compiled.

    Attributes:
        steps: the most a client takes in a round.
        room: places of a batch.
        coordinates: noisy ones of a sum.
        sampled: batches are Poisson samples.
    """

    steps: int
    room: int
    coordinates: int
    sampled: bool

    @classmethod
    def of(cls, local: LocalTraining, stages: BoundStage, longest: int) -> "Shapes":
        """For clients with at most `longest` examples."""
        noise = stages.spec.noise
        assert noise is not None
        sampled = local.rate is not None
        maximum = longest if sampled else min(local.batch_size, longest)
        steps = local.steps or (local.epochs or 1) * -(-longest // local.batch_size)
        return cls(steps, maximum, noise.coordinates, sampled)

    @property
    def drawn(self) -> Drawn:
        """What is drawn for a client, as shapes and dtypes."""
        batches = self.steps if self.sampled else 0, self.room
        return Drawn(*(jax.ShapeDtypeStruct(s, jnp.int32) for s in ((self.steps, self.coordinates), batches)))


def places_of(step: jax.Array, order: jax.Array, size: jax.Array, batch_size: int, room: int) -> jax.Array:
    """The places of a shuffled batch, then -1: int32 `[room]`. An epoch's last batch holds what is left.

    Args:
        step: from 0, of the epoch.
        order: of the client's examples, the first `size` of it valid.
        size: how many the client has.
        batch_size: examples in a batch.
        room: of the result.
    """
    at = jnp.arange(room)
    ranks = step * batch_size + at
    within = (at < batch_size) & (ranks < size)
    return jnp.where(within, order.at[ranks].get(mode="clip"), -1)


def sum_of_batch(
    gradient_of: GradientOf,
    params: Tree,
    columns: Columns,
    rows: tuple[jax.Array, jax.Array],
    places: jax.Array,
    stages: BoundStage,
    keys: tuple[jax.Array, jax.Array],
) -> jax.Array:
    """The sum of a batch's encoded examples, without noise: int32 `[length]`. One example moves its noisy coordinates by no
    more than the norms its `stages` state.

    Examples are worked through one by one. Many at once would be faster on an accelerator; but then one's gradient may differ in
    its last bit by where in the vector it stands, and so by who else is in the batch, which no clip bounds.

    Args:
        gradient_of: of a batch of one.
        params: at which gradients are taken.
        columns: rows of all clients.
        rows: of the client: the first, and how many.
        places: of the batch's examples among them, then -1: int32 `[room]`.
        stages: bound to one example's gradient and side values.
        keys: the step's, and the one all share.
    """
    start, size = rows
    key, shared_key = keys
    layout = Layout.of(params)

    def one(i: jax.Array, total: jax.Array) -> jax.Array:
        place = places[i]
        row = start + jnp.clip(place, 0, size - 1)
        example = {name: column.at[row].get(mode="clip")[None] for name, column in columns.items()}
        own = jax.random.fold_in(key, place)
        gradient, totals = gradient_of(params, example, None, own)
        means = totals[:-1:2] / jnp.maximum(totals[1::2], TINY)
        message = Message(layout.flatten(gradient), jnp.concatenate([totals[-1:], means]))
        encode_key = jax.random.fold_in(own, int(Purpose.ENCODE))
        return total + stages.encode(message, encode_key, shared_key).vector

    many = jnp.sum(places >= 0, dtype=jnp.int32)
    return lax.fori_loop(0, many, one, jnp.zeros((stages.spec.dimension,), jnp.int32))


def released(
    total: jax.Array, noise: jax.Array, stages: BoundStage, shared_key: jax.Array, batch_size: int
) -> tuple[jax.Array, jax.Array]:
    """What a step may be seen to find: the mean gradient, float32 `[parameters]`, and the totals of loss and metrics.

    The sum is divided by `batch_size`, whatever the batch.

    Args:
        total: of the batch, int32 `[length]`.
        noise: int32 `[coordinates]`.
        stages: the examples'.
        shared_key: which all share.
        batch_size: what the sum is divided by.
    """
    noisy = total.at[: noise.shape[0]].add(noise)
    found = stages.decode(Message(noisy, jnp.zeros((0,), jnp.float32)), shared_key)
    weight, means = found.auxiliary[0], found.auxiliary[1:]
    pairs = jnp.stack([weight * means, jnp.broadcast_to(weight, means.shape)], axis=1)
    return found.vector * (weight / batch_size), jnp.concatenate([pairs.ravel(), weight[None]])
