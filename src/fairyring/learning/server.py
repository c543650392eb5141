"""The server half of a round: the sum of the reports in, the next model out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairyring.aggregation.contract import BoundStage, Message
from fairyring.core.errors import PlanError
from fairyring.core.vector import Layout
from fairyring.learning.algorithm import Algorithm, Combined, Facts

Tree = Any


class ServerState(NamedTuple):
    """Everything that the server keeps from round to round.

    Attributes:
        params: the model.
        optimizer: the state of the server optimiser.
        algorithm: the algorithm's state on the server.
    """

    params: Tree
    optimizer: Tree
    algorithm: Tree


def first_state(params: Tree, server: optax.GradientTransformation, algorithm: Algorithm) -> ServerState:
    """The state before the first round."""
    return ServerState(params, server.init(params), algorithm.server_state(params))


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
        server: the server optimiser.
        algorithm: the algorithm whose server half interprets the update.
        aggregation: the plan's stages, bound.
        update: the layout of a client's update.
        clients: number of clients in the population.
        rate: the expected share of clients that report. It is what the algorithm sees where their number is a secret; otherwise None.

    Returns:
        `advance(state, total, reported, shared_key) -> (state, auxiliary, mean)`. `total` is the sum of `reported` (int32 scalar)
        messages. `auxiliary` are the decoded auxiliary values without the algorithm's own: float32, the weight and the means of what
        is measured (`Measured.coordinates`). `mean` is the decoded vector, float32 `[update.size]`. Without reports the state
        stays unchanged.
    """

    def advance(
        state: ServerState, total: Message, reported: jax.Array, shared_key: jax.Array
    ) -> tuple[ServerState, jax.Array, jax.Array]:
        mean = aggregation.decode(total, shared_key)
        extra = len(algorithm.auxiliary)
        split = mean.auxiliary.shape[0] - extra
        auxiliary = tuple(mean.auxiliary[split + i] for i in range(extra))
        fraction = reported.astype(jnp.float32) / clients if rate is None else jnp.float32(rate)
        combined = Combined(update.unflatten(mean.vector), auxiliary)
        delta, algorithm_state = algorithm.server(combined, state.algorithm, Facts(fraction))
        _check(algorithm, delta, algorithm_state, state)
        gradient = jax.tree.map(jnp.negative, delta)
        updates, optimizer = server.update(gradient, state.optimizer, state.params)
        params = jax.tree.map(lambda w, u: w + u.astype(w.dtype), state.params, updates)
        changed = ServerState(params, optimizer, algorithm_state)
        any_report = reported > 0
        advanced = jax.tree.map(lambda new, old: jnp.where(any_report, new, old), changed, state)
        return advanced, mean.auxiliary[:split], mean.vector

    return advance


def _check(algorithm: Algorithm, delta: Tree, own: Tree, state: ServerState) -> None:
    """Raise `PlanError` unless a server half gives what a round goes on with: other shapes might only be broadcast."""
    for name, given, expected in (
        ("delta", delta, state.params),
        ("server_state", own, state.algorithm),
    ):
        # As text: a scalar's shape is an empty tuple, and so may a whole state be.
        found, needed = (jax.tree.map(lambda leaf: f"{jnp.shape(leaf)}", tree) for tree in (given, expected))
        if found != needed:
            raise PlanError(
                f"algorithm {algorithm.name}, {name} of its server half",
                given=f"{found}",
                expected=f"{needed}",
                do="Return (delta, server_state): a delta like the parameters, and the state as it began.",
            )
