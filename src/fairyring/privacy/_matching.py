"""Gradient matching: searching for an example whose gradient has the direction of the observed one."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.compiled import call_apart
from fairyring.core.errors import PlanError

GradientOf = Callable[[jax.Array, jax.Array], jax.Array]
"""A traceable function from one example `[*shape]` and its soft label `[classes]` to the flat gradient `[d]`."""


def match_gradient(
    gradient_of: GradientOf,
    observed: np.ndarray,
    shape: Sequence[int],
    classes: int,
    *,
    key: jax.Array,
    label: int | None = None,
    steps: int = 400,
    restarts: int = 2,
    rate: float = 0.05,
    smoothness: float = 1e-3,
) -> np.ndarray:
    """The best example of `match_gradients`: float32 `[*shape]`, within [0, 1]."""
    images, _ = match_gradients(
        gradient_of,
        observed,
        shape,
        classes,
        key=key,
        label=label,
        steps=steps,
        restarts=restarts,
        rate=rate,
        smoothness=smoothness,
    )
    return images[0]


def match_gradients(
    gradient_of: GradientOf,
    observed: np.ndarray,
    shape: Sequence[int],
    classes: int,
    *,
    key: jax.Array,
    label: int | None = None,
    steps: int = 400,
    restarts: int = 2,
    rate: float = 0.05,
    smoothness: float = 1e-3,
) -> tuple[np.ndarray, np.ndarray]:
    """Examples whose gradients have nearly the direction of the observed one, one for each random start.

    Minimises `1 - cos(gradient_of(x, y), observed) + smoothness * TV(x)` (Geiping et al. 2020, equation 4) by Adam on
    the signs of the gradient, `x` kept in the box, from several random starts. TV is
    the mean absolute difference of neighbouring pixels over the first two axes; examples with one axis have none. A
    label that is not given is optimised together with the example, as in Zhu et al. 2019.

    Args:
        gradient_of: the loss's gradient at the public model. If the same function is passed for another target, nothing is
            compiled again.
        observed: the gradient `[d]`, up to a positive factor; for one SGD step, the negative change.
        shape: shape of the example: `[height, width]`, with channels, or any other.
        classes: number of classes.
        key: typed key for the random starts.
        label: the class if it is known; see `infer_label`.
        steps: steps of Adam per start.
        restarts: number of random starts.
        rate: initial rate of Adam; it falls to zero along a cosine.
        smoothness: weight of TV.

    Returns:
        The examples, float32 `[restarts, *shape]` within [0, 1], and their losses, `[restarts]`: the lowest loss
        first, since an attacker knows nothing else about them.

    Raises:
        PlanError: the observed gradient is zero or not finite, or is not as long as that of `gradient_of`; or the
            label is not one of the classes.
    """
    shape = tuple(int(n) for n in shape)
    target = np.asarray(observed, np.float32).reshape(-1)
    length = float(np.linalg.norm(target.astype(np.float64)))
    if not (np.isfinite(length) and length > 0.0):
        raise PlanError(
            "observed gradient",
            given=f"one of length {length:g}",
            expected="a finite one, and not zero",
            do="A zero or broken update reveals nothing about its data: there is nothing to match.",
        )
    example = jax.ShapeDtypeStruct(shape, jnp.float32)
    size = jax.eval_shape(gradient_of, example, jax.ShapeDtypeStruct((classes,), jnp.float32)).size
    if size != target.size:
        raise PlanError(
            "observed gradient",
            given=f"{target.size} numbers",
            expected=f"{size}, as gradient_of makes",
            do="Flatten both in the same order.",
        )
    if label is not None and not 0 <= label < classes:
        raise PlanError(
            "label", given=label, expected=f"0 to {classes - 1}", do="Pass None for an unknown label."
        )
    known = jnp.int32(-1 if label is None else label)
    keys = jax.random.split(key, restarts)
    unit = jnp.asarray(target / np.float32(length))
    settings = (jnp.float32(rate), jnp.float32(smoothness))
    # It is compiled and computed for seconds, in another thread: Ctrl-C is answered meanwhile.
    images, losses = call_apart(
        lambda: jax.block_until_ready(
            _descend(gradient_of, shape, classes, steps, unit, known, keys, settings)
        )
    )
    losses = np.asarray(losses)
    order = np.argsort(np.where(np.isnan(losses), np.inf, losses), kind="stable")
    return np.asarray(images)[order], losses[order]


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _descend(
    gradient_of: GradientOf,
    shape: tuple[int, ...],
    classes: int,
    steps: int,
    unit: jax.Array,
    label: jax.Array,
    keys: jax.Array,
    settings: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """The last image `[starts, *shape]` and loss `[starts]` of each start."""
    import optax

    rate, smoothness = settings
    adam = optax.scale_by_adam()

    def loss(variables: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, logits = variables
        soft = jnp.where(label >= 0, jax.nn.one_hot(label, classes), jax.nn.softmax(logits))
        gradient = gradient_of(x, soft).reshape(-1)
        # The norm has no gradient at zero: keep the square root away from it.
        cosine = jnp.vdot(gradient, unit) / jnp.sqrt(jnp.vdot(gradient, gradient) + 1e-24)
        return 1.0 - cosine + smoothness * _variation(x)

    def start(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        variables = (jax.random.uniform(key, shape), jnp.zeros((classes,)))

        def step(carry, index: jax.Array):
            variables, state = carry
            by_x, by_logits = jax.grad(loss)(variables)
            moves, state = adam.update((jnp.sign(by_x), by_logits), state)
            now = rate * 0.5 * (1.0 + jnp.cos(jnp.pi * index / steps))
            x, logits = jax.tree.map(lambda value, move: value - now * move, variables, moves)
            return ((jnp.clip(x, 0.0, 1.0), logits), state), None

        (variables, _), _ = jax.lax.scan(step, (variables, adam.init(variables)), jnp.arange(steps))
        return variables[0], loss(variables)

    return jax.lax.map(start, keys)


def _variation(x: jax.Array) -> jax.Array:
    """Mean absolute difference of neighbours along the first two axes; 0 if there is only one axis."""
    if x.ndim < 2:
        return jnp.float32(0.0)
    return jnp.abs(jnp.diff(x, axis=0)).mean() + jnp.abs(jnp.diff(x, axis=1)).mean()
