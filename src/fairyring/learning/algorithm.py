"""The contract of a federated algorithm: what its device half and its server half do.

An algorithm is a handful of pure functions over pytrees, as short as its paper's pseudo-code. Its device half receives the
model, what the server keeps (`server_state`, sent to every client of a round) and what this client keeps (`client_state`,
which never leaves it), and calls the local loop: `client.sgd`, `client.mean`, `client.total`. Its server half sees the mean of
the reports, never a single one. All of it must be traceable by JAX: it runs inside the compiled programs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from fairyring.aggregation.contract import Auxiliary

Tree = Any


class Batch(Protocol):
    """Some of a client's examples. Where noise protects examples, `gradient` at the step's own parameters is all it gives."""

    @property
    def mask(self) -> jax.Array:
        """1 for an example, 0 for a place that holds none: float32 `[rows]`."""
        ...

    def gradient(self, params: Tree) -> Tree:
        """The gradient of the batch's mean loss."""
        ...

    def loss(self, params: Tree) -> jax.Array:
        """The batch's mean loss: float32 scalar."""
        ...

    def __getitem__(self, name: str) -> jax.Array:
        """A column: `[rows, ...]`. Places without an example repeat one; see `mask`."""
        ...


Gradient = Callable[[Tree, Batch], Tree]


class Trained(NamedTuple):
    """What a call of `Client.sgd` came to.

    Attributes:
        params: after the last step.
        delta: `params` minus those it started from.
        steps: how many were taken: float32 scalar.
        gradient: the mean of what `Batch.gradient` gave along the way; None unless it was asked for.
    """

    params: Tree
    delta: Tree
    steps: jax.Array
    gradient: Tree | None


class Client(Protocol):
    """What a device half may do with its client's examples.

    The loss and the metrics of a round are those of its first pass that asks for a gradient or a loss: along the steps of an
    `sgd`, or over the examples of a `mean` or `total`. A pass inside a loop or another transformation does not count, and without
    any they are 0. Each call draws randomness of its own; called inside a loop, each turn draws the same.
    """

    def sgd(
        self,
        start: Tree,
        gradient: Gradient | None = None,
        *,
        optimizer: optax.GradientTransformation | None = None,
        epochs: int | jax.Array | None = None,
        steps: int | jax.Array | None = None,
        mean_gradient: bool = False,
    ) -> Trained:
        """Train from `start`, as the plan's local training says.

        Args:
            start: parameters.
            gradient: `(params, batch) -> gradient`, what the optimiser follows at each step; `batch.gradient` without it. It is the
                only hook: a proximal term, a control variate, a meta-gradient are all gradients.
            optimizer: in place of the plan's; its numbers may be traced.
            epochs: in place of the plan's.
            steps: in place of the plan's; at least 0. Batches wrap around.
            mean_gradient: also give the mean gradient, at the cost of one more pass over memory a step.
        """
        ...

    def mean(self, f: Callable[[Batch], Tree]) -> Tree:
        """The mean of `f(batch)` over all the client's examples: batches count by how many they hold."""
        ...

    def total(self, f: Callable[[Batch], Tree]) -> Tree:
        """The sum of `f(batch)` over batches that hold each example once; `f` must leave out places by `batch.mask`."""
        ...


class Report(NamedTuple):
    """What a client makes of its round.

    Attributes:
        update: any pytree of floats, the same for all clients. It goes through the plan's stages into the sum.
        client_state: the client's new state.
        auxiliary: scalars that travel with the update, one for each of `Algorithm.auxiliary`.
    """

    update: Tree
    client_state: Tree = ()
    auxiliary: tuple[jax.Array, ...] = ()


class Combined(NamedTuple):
    """What the server sees of a round's reports: means, weighted as the plan's stages say.

    Attributes:
        update: the mean update.
        auxiliary: the means of the auxiliary scalars.
    """

    update: Tree
    auxiliary: tuple[jax.Array, ...]


class Facts(NamedTuple):
    """What the server knows of a round besides.

    Attributes:
        fraction: the share of all clients whose report is in it: float32 scalar. Where that is a secret, the share on average.
    """

    fraction: jax.Array


def stateless(params: Tree) -> tuple[()]:
    """The state of an algorithm that keeps none."""
    return ()


def apply_mean(combined: Combined, server_state: Tree, facts: Facts) -> tuple[Tree, Tree]:
    """The server half of plain averaging: the mean update is the model's delta."""
    return combined.update, server_state


def received_model(client: Client, received: Tree, server_state: Tree, client_state: Tree) -> Tree:
    """The model a client uses where an algorithm does not personalise: the one it received."""
    return received


def zeros_like(params: Tree) -> Tree:
    """Zeros in the shapes of `params`."""
    return jax.tree.map(jnp.zeros_like, params)


class Algorithm(NamedTuple):
    """A federated algorithm.

    Attributes:
        name: that of the function that makes it, such as ``fedprox``.
        device: `(client, received, server_state, client_state) -> Report`, on a client, once a round.
        server: `(Combined, server_state, Facts) -> (delta, server_state)`, on the server; its optimiser follows `-delta`.
        server_state: `params -> server_state`, before the first round.
        client_state: `params -> client_state`, before a client's first round.
        personal: `(client, received, server_state, client_state) -> params`, the model that a client uses.
        auxiliary: the scalars of a report, with their bounds.
        update: `params -> update`, as shapes: needed where a half reads columns, of which a plan knows nothing; else None.
        in_clips: updates travel in units of a clip norm that the algorithm keeps.
        settings: the arguments of the function that makes it, all of them: plain values, or another algorithm.
    """

    name: str
    device: Callable[[Client, Tree, Tree, Tree], Report]
    server: Callable[[Combined, Tree, Facts], tuple[Tree, Tree]] = apply_mean
    server_state: Callable[[Tree], Tree] = stateless
    client_state: Callable[[Tree], Tree] = stateless
    personal: Callable[[Client, Tree, Tree, Tree], Tree] = received_model
    auxiliary: tuple[Auxiliary, ...] = ()
    update: Callable[[Tree], Tree] | None = None
    in_clips: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
