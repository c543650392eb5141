"""The losses of scikit-learn's linear estimators, number by number: at a kink, value and gradient are scikit-learn's.

Those of classifiers are of a score and a sign, 1 for the class and -1 for the others. Those of regressors are of a prediction and a target.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def log_loss(score: jax.Array, sign: jax.Array) -> jax.Array:
    """`log(1 + exp(-score * sign))`."""
    return jax.nn.softplus(-score * sign)


def hinge(score: jax.Array, sign: jax.Array, threshold: float = 1.0) -> jax.Array:
    """`max(0, threshold - score * sign)`: 1 is the support vector machine's, 0 the perceptron's."""
    margin = score * sign
    # At the threshold there is a gradient. A perceptron that starts at zeros would never leave them without it.
    return jnp.where(margin <= threshold, threshold - margin, 0.0)


def squared_hinge(score: jax.Array, sign: jax.Array) -> jax.Array:
    """`max(0, 1 - score * sign)^2`."""
    return jnp.square(jnp.maximum(1.0 - score * sign, 0.0))


def modified_huber(score: jax.Array, sign: jax.Array) -> jax.Array:
    """The squared hinge down to a margin of -1, and linear beyond (Zhang 2004)."""
    margin = score * sign
    inner = jnp.square(jnp.maximum(1.0 - margin, 0.0))
    return jnp.where(margin >= -1.0, inner, -4.0 * margin)


def squared(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """`(prediction - target)^2`: of LinearRegression and Ridge."""
    return jnp.square(prediction - target)


def half_squared(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """`(prediction - target)^2 / 2`: `squared_error` of the SGD estimators."""
    return 0.5 * jnp.square(prediction - target)


def huber(prediction: jax.Array, target: jax.Array, epsilon: float) -> jax.Array:
    """Half the square of an error up to epsilon, and linear beyond."""
    error = jnp.abs(prediction - target)
    return jnp.where(error <= epsilon, 0.5 * jnp.square(error), epsilon * error - 0.5 * epsilon**2)


def epsilon_insensitive(prediction: jax.Array, target: jax.Array, epsilon: float) -> jax.Array:
    """`max(0, |prediction - target| - epsilon)`."""
    error = jnp.abs(prediction - target)
    return jnp.where(error > epsilon, error - epsilon, 0.0)


def squared_epsilon_insensitive(prediction: jax.Array, target: jax.Array, epsilon: float) -> jax.Array:
    """`max(0, |prediction - target| - epsilon)^2`."""
    return jnp.square(epsilon_insensitive(prediction, target, epsilon))


def loss_of_sgd(name: str, epsilon: float) -> Loss | None:
    """The loss that `SGDClassifier` and `SGDRegressor` call by this name; None if there is none."""
    return {
        "log_loss": log_loss,
        "hinge": hinge,
        "perceptron": partial(hinge, threshold=0.0),
        "squared_hinge": squared_hinge,
        "modified_huber": modified_huber,
        "squared_error": half_squared,
        "huber": partial(huber, epsilon=epsilon),
        "epsilon_insensitive": partial(epsilon_insensitive, epsilon=epsilon),
        "squared_epsilon_insensitive": partial(squared_epsilon_insensitive, epsilon=epsilon),
    }.get(name)
