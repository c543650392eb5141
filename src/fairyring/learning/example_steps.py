"""Local training with noise in every step: DP-SGD (Abadi et al. 2016). A step is a small round whose clients are examples.

It uses the same stages as a plan's aggregation. Each example's gradient, together with its loss and metrics, is clipped and rounded to
integers whose joint norm has a certain bound. The integers of a batch are added, integer noise is added to the sum, and training goes on
with what is decoded from that and nothing else. Batches and noise are drawn outside of the compiled program, by
`fairyring.privacy.source`.
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
from fairyring.learning.measured import Measured

Tree = Any
Array = Any  # a NumPy array outside of compiled programs, a JAX array inside
Columns = Mapping[str, jax.Array]
# `(params, batch, mask, key) -> (gradient, totals)`; see `fairyring.learning.client.Objective` for the totals.
GradientOf = Callable[..., tuple[Tree, jax.Array]]


class Drawn(NamedTuple):
    """What a client draws for a round before it trains.

    Attributes:
        noise: the noise of every step: int32 `[steps, coordinates]`.
        batches: the places of the examples in every step's batch, then -1: int32 `[steps, room]`, with room for all examples. Where
            batches are not Poisson samples they are cut from an order of the examples, and this is `[0, room]`.
    """

    noise: Array
    batches: Array


class Shapes(NamedTuple):
    """The shapes in which noisy steps are compiled.

    Attributes:
        steps: the most steps that a client takes in a round.
        room: the most examples in a batch.
        coordinates: the number of coordinates of a sum that get noise.
        sampled: whether batches are Poisson samples.
    """

    steps: int
    room: int
    coordinates: int
    sampled: bool

    @classmethod
    def of(cls, local: LocalTraining, stages: BoundStage, longest: int) -> "Shapes":
        """The shapes for clients with at most `longest` examples."""
        noise = stages.spec.noise
        assert noise is not None
        sampled = local.rate is not None
        maximum = longest if sampled else min(local.batch_size, longest)
        steps = local.steps or (local.epochs or 1) * -(-longest // local.batch_size)
        return cls(steps, maximum, noise.coordinates, sampled)

    @property
    def drawn(self) -> Drawn:
        """What a client draws, as shapes and dtypes."""
        batches = self.steps if self.sampled else 0, self.room
        return Drawn(*(jax.ShapeDtypeStruct(s, jnp.int32) for s in ((self.steps, self.coordinates), batches)))


def places_of(step: jax.Array, order: jax.Array, size: jax.Array, batch_size: int, room: int) -> jax.Array:
    """The places of the examples in one batch of an epoch, then -1: int32 `[room]`. An epoch's last batch holds the remaining examples.

    Args:
        step: the step in the epoch, from 0.
        order: the order of the client's examples, of which the first `size` are valid.
        size: number of the client's examples.
        batch_size: number of examples in a full batch.
        room: length of the result.
    """
    at = jnp.arange(room)
    ranks = step * batch_size + at
    within = (at < batch_size) & (ranks < size)
    return jnp.where(within, order.at[ranks].get(mode="clip"), -1)


def sum_of_batch(
    gradient_of: GradientOf,
    measured: Measured,
    params: Tree,
    columns: Columns,
    rows: tuple[jax.Array, jax.Array],
    places: jax.Array,
    stages: BoundStage,
    keys: tuple[jax.Array, jax.Array],
) -> jax.Array:
    """The sum of a batch's encoded examples, before noise is added: int32 `[length]`.

    One example changes the coordinates that get noise by no more than the norms that `stages` state.

    Examples are processed one by one. Many at once would be faster on an accelerator. But then the last bit of an example's gradient
    could depend on its position, and so on who else is in the batch, and no clip bounds that.

    Args:
        gradient_of: the gradient of a batch with one example.
        measured: what its totals are of.
        params: the parameters at which gradients are taken.
        columns: the rows of all clients, by column name.
        rows: the client's first row, and its number of rows: int32 scalars.
        places: the places of the batch's examples among the client's, then -1: int32 `[room]`.
        stages: the stages, bound to one example's gradient and auxiliary values.
        keys: the step's key, and the key that all clients share.
    """
    start, size = rows
    key, shared_key = keys
    layout = Layout.of(params)

    def add_example(i: jax.Array, total: jax.Array) -> jax.Array:
        place = places[i]
        row = start + jnp.clip(place, 0, size - 1)
        example = {name: column.at[row].get(mode="clip")[None] for name, column in columns.items()}
        example_key = jax.random.fold_in(key, place)
        gradient, totals = gradient_of(params, example, None, example_key)
        means = measured.coordinates_of(totals)
        message = Message(layout.flatten(gradient), jnp.concatenate([totals[-1:], means]))
        encode_key = jax.random.fold_in(example_key, int(Purpose.ENCODE))
        return total + stages.encode(message, encode_key, shared_key).vector

    count = jnp.sum(places >= 0, dtype=jnp.int32)
    return lax.fori_loop(0, count, add_example, jnp.zeros((stages.spec.dimension,), jnp.int32))


def released(
    total: jax.Array,
    measured: Measured,
    noise: jax.Array,
    stages: BoundStage,
    shared_key: jax.Array,
    batch_size: int,
) -> tuple[jax.Array, jax.Array]:
    """What a step releases: the noisy mean gradient, float32 `[parameters]`, and the noisy totals of loss and metrics.

    The totals are float32 `[2 + 2 metrics + 1]`, as in `fairyring.learning.client.Objective`. The sum of gradients is divided by
    `batch_size`, whatever the size of the batch.

    Args:
        total: the sum of the batch, from `sum_of_batch`: int32 `[length]`.
        measured: what the totals are of.
        noise: the step's noise: int32 `[coordinates]`.
        stages: the stages of the examples, bound.
        shared_key: the key that all clients share.
        batch_size: the divisor of the sum.
    """
    noisy = total.at[: noise.shape[0]].add(noise)
    mean = stages.decode(Message(noisy, jnp.zeros((0,), jnp.float32)), shared_key)
    weight, means = mean.auxiliary[0], mean.auxiliary[1:]
    return mean.vector * (weight / batch_size), measured.totals_of(weight, means)
