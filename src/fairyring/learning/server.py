"""The server half of a round: the sum of the reports in, the next model out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairyring.aggregation.contract import BoundStage, Message
from fairyring.core.vector import Layout
from fairyring.learning.algorithm import Algorithm

Tree = Any


class ServerState(NamedTuple):
    """All that the server carries from round to round: the model, its optimiser, the algorithm's extra state."""

    params: Tree
    optimizer: Tree
    shared: Tree


def first_state(params: Tree, server: optax.GradientTransformation, algorithm: Algorithm) -> ServerState:
    """The state before the first round."""
    return ServerState(params, server.init(params), algorithm.shared(params))


def server_half(
    server: optax.GradientTransformation,
    algorithm: Algorithm,
    aggregation: BoundStage,
    update: Layout,
    clients: int,
    rate: float | None = None,
) -> Callable[[ServerState, Message, jax.Array, jax.Array], tuple[ServerState, jax.Array, jax.Array]]:
    """The server half of a plan, as one traceable function.

    Args:
        server: the optimiser.
        algorithm: what the update means.
        aggregation: the plan's stages, bound.
        update: layout of a client's update.
        clients: how many clients the population has.
        rate: the share of them that reports on average, to be told the algorithm where how many really did is a secret.

    Returns:
        `advance(state, sum, reported, shared_key) -> (state, auxiliary, mean)`: `sum` is the sum of `reported` (int32)
        messages; `auxiliary` is the decoded side, `[weight, metric means...]`, and `mean` the decoded vector. With no report
        the state stays as it is.
    """

    def advance(
        state: ServerState, total: Message, reported: jax.Array, shared_key: jax.Array
    ) -> tuple[ServerState, jax.Array, jax.Array]:
        mean = aggregation.decode(total, shared_key)
        extra = len(algorithm.auxiliaries)
        split = mean.auxiliary.shape[0] - extra
        auxiliaries = tuple(mean.auxiliary[split + i] for i in range(extra))
        fraction = reported.astype(jnp.float32) / clients if rate is None else jnp.float32(rate)
        delta, shared = algorithm.apply(update.unflatten(mean.vector), auxiliaries, state.shared, fraction)
        gradient = jax.tree.map(jnp.negative, delta)
        moves, optimizer = server.update(gradient, state.optimizer, state.params)
        params = jax.tree.map(lambda w, m: w + m.astype(w.dtype), state.params, moves)
        following = ServerState(params, optimizer, shared)
        heard = reported > 0
        kept = jax.tree.map(lambda new, old: jnp.where(heard, new, old), following, state)
        return kept, mean.auxiliary[:split], mean.vector

    return advance
