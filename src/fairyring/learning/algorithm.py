"""The contract of a federated algorithm: what its device half and its server half do.

An algorithm is a few pure functions over pytrees, as short as its paper's pseudo-code. The device half receives the model,
the server's state (`server_state`, sent to every client of a round) and this client's state (`client_state`, which never
leaves the client). It calls the local loop: `client.sgd`, `client.mean`, `client.total`. The server half sees the mean of the
reports, never a single report. All of these functions run inside the compiled programs, so JAX must be able to trace them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from fairyring.aggregation.contract import Auxiliary

Tree = Any


class Batch(Protocol):
    """Some of a client's examples.

    The model runs in training mode. All gradients and losses of one batch share one key, so dropout draws the same numbers for
    each of them.

    Where noise protects examples, a batch gives only its noisy gradient, at the step's own parameters. Everything else raises
    `PlanError`.
    """

    @property
    def mask(self) -> jax.Array:
        """1 where a row holds an example, 0 where it is padding: float32 `[rows]`."""
        ...

    def gradient(self, params: Tree) -> Tree:
        """The gradient of the batch's mean loss (see `loss`): a pytree like `params`."""
        ...

    def loss(self, params: Tree) -> jax.Array:
        """The mean loss of the batch's examples, by the weights that the task's loss gives them: float32 scalar."""
        ...

    def __getitem__(self, name: str) -> jax.Array:
        """A column: `[rows, ...]`. Padding repeats one of the client's examples; see `mask`."""
        ...


Gradient = Callable[[Tree, Batch], Tree]


class Trained(NamedTuple):
    """The result of `Client.sgd`.

    Attributes:
        params: the parameters after the last step.
        delta: `params` minus the parameters at the start.
        steps: the number of steps taken: float32 scalar.
        gradient: the mean over the steps of the first gradient that each batch gave, a pytree like `params`; None without
            `mean_gradient`.
    """

    params: Tree
    delta: Tree
    steps: jax.Array
    gradient: Tree | None


class Client(Protocol):
    """What a device half may do with its client's examples.

    A round's loss and metrics are those of the first pass that takes a gradient or a loss: along the steps of an `sgd`, or over the
    examples of a `mean` or `total`. Each batch counts at the first parameters at which one is taken, outside of the algorithm's own
    loops and transformations; a pass inside one does not count. Without any such pass, loss and metrics are 0.

    Each call draws its own randomness. A call inside a loop draws the same in every iteration.
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
        """Train from `start`, with the plan's local training except where an argument replaces a part of it.

        Args:
            start: the parameters to start from.
            gradient: `(params, batch) -> gradient`, a pytree like `params` that the optimiser follows at each step; by default
                `batch.gradient(params)`. It is the only hook: a proximal term, a control variate and a meta-gradient are all
                gradients.
            optimizer: replaces the plan's optimiser; its numbers may be traced.
            epochs: replaces the plan's number of passes; at least 0, and may be traced.
            steps: replaces the plan's number of steps; at least 0, and may be traced. Batches wrap around.
            mean_gradient: also return the mean gradient, at the cost of one more pass over memory per step. It needs at least one
                step, and a `gradient` that calls `batch.gradient` itself, outside of loops and transformations.

        Raises:
            PlanError: `epochs` and `steps` are both given; `mean_gradient` without such a call; or, where noise protects
                examples, `epochs` or `steps` is given, `sgd` is called a second time, or `gradient` uses anything but the noisy
                gradient.
        """
        ...

    def mean(self, f: Callable[[Batch], Tree]) -> Tree:
        """The mean of `f(batch)` over all the client's examples. A batch counts by its number of examples, whatever their weights.

        Raises:
            PlanError: noise protects examples.
        """
        ...

    def total(self, f: Callable[[Batch], Tree]) -> Tree:
        """The sum of `f(batch)` over batches that together hold each example once, in stored order.

        The last batch may have padding. Where `f` reads columns, it must leave padding out with `batch.mask`.

        Raises:
            PlanError: noise protects examples.
        """
        ...


class Report(NamedTuple):
    """The result of a client's round.

    Attributes:
        update: any pytree of floats, of the same structure and shapes for all clients. It goes through the plan's stages into the
            sum.
        client_state: the client's new state, in the structure and shapes of the old one.
        auxiliary: float32 scalars that travel with the update, one for each of `Algorithm.auxiliary`, in that order.

    If anything in the update or the auxiliary scalars is not finite, the client keeps its old state; see
    `fairyring.learning.device.Outcome`.
    """

    update: Tree
    client_state: Tree = ()
    auxiliary: tuple[jax.Array, ...] = ()


class Combined(NamedTuple):
    """What the server sees of a round's reports: means, weighted as the plan's stages say.

    Attributes:
        update: the mean update, in the structure and shapes of `Report.update`.
        auxiliary: the means of the auxiliary scalars, float32, in the order of `Algorithm.auxiliary`.
    """

    update: Tree
    auxiliary: tuple[jax.Array, ...]


class Facts(NamedTuple):
    """What else the server knows of a round.

    Attributes:
        fraction: the share of all clients whose reports are in the mean: float32 scalar. Where that is a secret (a Poisson cohort
            under a budget for devices), it is the expected share.
    """

    fraction: jax.Array


def stateless(params: Tree) -> tuple[()]:
    """The initial state of an algorithm without state: an empty pytree."""
    return ()


def apply_mean(combined: Combined, server_state: Tree, facts: Facts) -> tuple[Tree, Tree]:
    """The server half of plain averaging: the mean update is the model's delta, and the state stays."""
    return combined.update, server_state


def received_model(client: Client, received: Tree, server_state: Tree, client_state: Tree) -> Tree:
    """The model that a client uses if the algorithm does not personalise: the one it received."""
    return received


def zeros_like(params: Tree) -> Tree:
    """Zeros in the structure, shapes and dtypes of `params`."""
    return jax.tree.map(jnp.zeros_like, params)


class Algorithm(NamedTuple):
    """A federated algorithm.

    Attributes:
        name: the name of the function that makes the algorithm, such as ``fedprox``.
        device: `(client, received, server_state, client_state) -> Report`, run on each client of a round, once.
        server: `(Combined, server_state, Facts) -> (delta, server_state)`, run on the server once a round. `delta` is a pytree like
            the parameters, and the server's optimiser takes `-delta` as its gradient. In a round without reports nothing changes.
        server_state: `params -> server_state`, from the run's first parameters, before the first round.
        client_state: `params -> client_state`, from the run's first parameters, before a client's first round.
        personal: `(client, received, server_state, client_state) -> params`, the model that a client uses. It stays on the client,
            so its training is without noise. `fairyring.learning.device.personal_half` computes it; `simulate` does not use it.
        auxiliary: the name and the bound of each auxiliary scalar of a report. Each is cut to
            `[0, bound]`. Masks and noise need a finite bound.
        update: `params -> update`: a pytree of which only structure, shapes and dtypes count. It is needed where `device` or
            `personal` reads columns, because a plan is made before any column is known; otherwise None.
        in_clips: updates travel in units of a clip norm that the algorithm keeps.
        settings: all arguments of the function that makes the algorithm: plain values, or another algorithm. A plan's document names
            the algorithms of this package by them. It names any other by the digest of its program, which contains the numbers that
            its functions close over.
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
