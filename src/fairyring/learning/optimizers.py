"""Server optimisers with a name in the literature, as optax optimisers.

The server treats minus the mean delta as a gradient (Reddi et al. 2021, Algorithm 1). Any other optax optimiser can
be used instead.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairyring.core.errors import PlanError

Optimizer = optax.GradientTransformation


def fedavg(learning_rate: optax.ScalarOrSchedule = 1.0) -> Optimizer:
    """FedAvg (McMahan et al. 2017): the new model is the old one plus the mean delta."""
    return optax.sgd(learning_rate)


def fedavgm(learning_rate: optax.ScalarOrSchedule = 1.0, momentum: float = 0.9) -> Optimizer:
    """FedAvgM (Hsu et al. 2019): server updates with heavy-ball momentum."""
    return optax.sgd(learning_rate, momentum=momentum)


def fedadam(
    learning_rate: optax.ScalarOrSchedule = 1e-2,
    b1: float = 0.9,
    b2: float = 0.99,
    tau: float = 1e-3,
    *,
    bias_correction: bool = True,
) -> Optimizer:
    """FedAdam (Reddi et al. 2021).

    Args:
        learning_rate: of the server.
        b1, b2: decay of the mean and of the mean square of deltas.
        tau: added to the root of the mean square: how far the rate adapts.
        bias_correction: whether the first steps are corrected for means that start at 0, as optax's Adam does. The paper's are not:
            its mean square starts at `tau**2`, and its first steps are shorter.
    """
    if bias_correction:
        return optax.adam(learning_rate, b1=b1, b2=b2, eps=tau)
    return optax.chain(scale_by_fedadam(b1, b2, tau), optax.scale_by_learning_rate(learning_rate))


def fedyogi(
    learning_rate: optax.ScalarOrSchedule = 1e-2, b1: float = 0.9, b2: float = 0.99, tau: float = 1e-3
) -> Optimizer:
    """FedYogi (Reddi et al. 2021, Algorithm 2): the mean square starts at `tau**2`, and first steps are not corrected.

    For the corrected form use `optax.yogi`, whose mean square starts at 1e-6.
    """
    return optax.chain(scale_by_fedyogi(b1, b2, tau), optax.scale_by_learning_rate(learning_rate))


def fedadagrad(learning_rate: optax.ScalarOrSchedule = 1e-1, tau: float = 1e-3) -> Optimizer:
    """FedAdagrad (Reddi et al. 2021, Algorithm 2, without momentum): the sum of squares starts at `tau**2`.

    A step is `learning_rate * delta / (sqrt(sum) + tau)`. In `optax.adagrad` what is added stands within the root.
    """
    return optax.chain(scale_by_fedadagrad(tau), optax.scale_by_learning_rate(learning_rate))


class Moments(NamedTuple):
    """The state of an adaptive server: a mean of deltas and a mean, or sum, of their squares, like the parameters."""

    mean: Any
    square: Any


def scale_by_fedadam(b1: float, b2: float, tau: float) -> Optimizer:
    """`m / (sqrt(v) + tau)` with `v = b2 v + (1 - b2) delta^2` (Reddi et al. 2021, Algorithm 2)."""

    def init(params: Any) -> Any:
        return _first(params, tau)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        square = jax.tree.map(lambda v, d: b2 * v + (1 - b2) * d * d, state.square, updates)
        return _step(updates, state, square, b1, tau)

    return optax.GradientTransformation(init, update)


def scale_by_fedyogi(b1: float, b2: float, tau: float) -> Optimizer:
    """`m / (sqrt(v) + tau)` with `v = v - (1 - b2) delta^2 sign(v - delta^2)` (Reddi et al. 2021, Algorithm 2)."""

    def init(params: Any) -> Any:
        return _first(params, tau)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        square = jax.tree.map(lambda v, d: v - (1 - b2) * d * d * jnp.sign(v - d * d), state.square, updates)
        return _step(updates, state, square, b1, tau)

    return optax.GradientTransformation(init, update)


def scale_by_fedadagrad(tau: float) -> Optimizer:
    """`delta / (sqrt(v) + tau)` with `v = v + delta^2` (Reddi et al. 2021, Algorithm 2, with b1 = 0 as in its experiments)."""

    def init(params: Any) -> Any:
        return _first(params, tau).square

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        square = jax.tree.map(lambda v, d: v + d * d, state, updates)
        return jax.tree.map(lambda d, v: d / (jnp.sqrt(v) + tau), updates, square), square

    return optax.GradientTransformation(init, update)


def _first(params: Any, tau: float) -> Any:
    return Moments(
        jax.tree.map(jnp.zeros_like, params),
        jax.tree.map(lambda leaf: jnp.full_like(leaf, tau * tau), params),
    )


def _step(updates: Any, state: Any, square: Any, b1: float, tau: float) -> tuple[Any, Any]:
    mean = jax.tree.map(lambda m, d: b1 * m + (1 - b1) * d, state.mean, updates)
    return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + tau), mean, square), Moments(mean, square)


def check_optimizer(what: str, optimizer: Optimizer, params: Any) -> None:
    """Raise `PlanError` unless gradients, state and parameters are all that an optimiser's update needs, and give the same forms again.

    Args:
        what: what it is, for the error.
        optimizer: to check.
        params: that it is for; shapes are enough.
    """

    def step(params: Any) -> Any:
        state = optimizer.init(params)
        return (params, state), optimizer.update(params, state, params)

    try:
        before, after = jax.eval_shape(step, params)
    except Exception as error:  # an optimiser may raise anything for what it lacks
        raise PlanError(
            what,
            given=f"one whose update fails with gradients, state and parameters: {type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0]}",
            expected="an optimiser that needs nothing else, such as no value of the loss and no line search, and can be compiled",
            do="Use optax.sgd, optax.adam or another one that only reads gradients.",
        ) from error

    def forms(tree: Any) -> Any:
        return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]

    for part, own, new in zip(("updates", "state"), before, after, strict=True):
        if forms(own) != forms(new) and not (part == "updates" and _shapes(own) == _shapes(new)):
            raise PlanError(
                what,
                given=f"one whose {part} have another structure, other shapes or other types after a step",
                expected="updates like the parameters, and a state that keeps its form",
                do="Use optax.sgd, optax.adam or another one that can be used in a compiled loop.",
            )


def _shapes(tree: Any) -> Any:
    """Structure and shapes: updates may be of another type, to which they are converted."""
    return jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]


def check_function_of_round(optimizer: Any) -> None:
    """Raise `PlanError` unless a function from the round to an optimiser is one, also while it is compiled.

    Args:
        optimizer: the function.
    """
    innermost = optimizer
    while isinstance(innermost, functools.partial):
        innermost = innermost.func
    name = getattr(innermost, "__name__", type(innermost).__name__)
    made_by = getattr(innermost, "__qualname__", name).partition(".<locals>.")[0]
    expected = "an optax optimiser, or a function from the round to one"
    if str(getattr(innermost, "__module__", "")).partition(".")[0] == "optax":
        schedule = made_by != name
        raise PlanError(
            "LocalTraining optimizer",
            given=f"a schedule, of optax.{made_by}" if schedule else f"the function optax.{name} itself",
            expected=expected,
            do=f"Write optax.sgd(optax.{made_by}(...)): it counts local steps. For a rate by the round write lambda r: optax.sgd(...)."
            if schedule
            else f"Call it, as in optax.{name}(0.1).",
        )
    made: list[Any] = []
    try:
        jax.eval_shape(lambda round: made.append(optimizer(round)), jax.ShapeDtypeStruct((), np.int32))
    except Exception as error:  # it is the user's code, and may raise anything
        raise PlanError(
            "LocalTraining optimizer",
            given=f"a function that fails for a round: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            expected=f"{expected}, which is compiled: the round is an int32 scalar of JAX",
            do="Write it with jax.numpy, as in lambda r: optax.sgd(0.1 * 0.99**r), or jnp.where(r < 5, 0.1, 0.01) for a rate.",
        ) from error
    if not isinstance(made[0], optax.GradientTransformation):
        raise PlanError(
            "LocalTraining optimizer",
            given=f"a function that returns {type(made[0]).__name__} for a round",
            expected=expected,
            do="Return one, as in lambda r: optax.sgd(0.1 * 0.99**r).",
        )
