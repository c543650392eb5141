"""An algorithm's device half without examples: as a function of the gradients that its batches would give.

This gives whatever does not depend on examples: the shape of an update, whether padding stays zero, the digest of an algorithm.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fairyring.core.errors import PlanError
from fairyring.learning.algorithm import Batch, Gradient, Trained

Tree = Any


class RehearsalClient:
    """A client whose batches have given gradients. It implements `fairyring.learning.algorithm.Client`.

    Args:
        optimizer: the optimiser of local training.
        gradients: the gradients of its batches, one per step, at least one: pytrees like the parameters.
        columns: the columns of every batch, `[rows, ...]`; None if they are unknown.
    """

    def __init__(
        self,
        optimizer: optax.GradientTransformation,
        gradients: Sequence[Tree],
        columns: Mapping[str, jax.Array] | None = None,
    ) -> None:
        self._optimizer, self._batches = optimizer, [_Batch(gradient, columns) for gradient in gradients]

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
        """See `fairyring.learning.algorithm.Client`. It takes one step for each of the gradients, whatever `epochs` and `steps`."""
        optimizer = optimizer or self._optimizer
        params, state = start, optimizer.init(start)
        total = jax.tree.map(jnp.zeros_like, start)
        for batch in self._batches:
            plain = batch.gradient(params)
            direction = plain if gradient is None else gradient(params, batch)
            updates, state = optimizer.update(direction, state, params)
            params = jax.tree.map(lambda w, u: w + u.astype(w.dtype), params, updates)
            total = jax.tree.map(jnp.add, total, plain)
        count = jnp.float32(len(self._batches))
        mean = jax.tree.map(lambda g: g / count, total) if mean_gradient else None
        return Trained(params, jax.tree.map(jnp.subtract, params, start), count, mean)

    def mean(self, f: Callable[[Batch], Tree]) -> Tree:
        """See `fairyring.learning.algorithm.Client`: the mean over one batch."""
        return f(self._batches[0])

    def total(self, f: Callable[[Batch], Tree]) -> Tree:
        """See `fairyring.learning.algorithm.Client`: the sum over one batch."""
        return f(self._batches[0])


class _Batch:
    """A batch whose gradient and loss do not depend on the parameters."""

    def __init__(self, gradient: Tree, columns: Mapping[str, jax.Array] | None) -> None:
        self._gradient, self._columns = gradient, columns

    @property
    def mask(self) -> jax.Array:
        rows = 1 if self._columns is None else len(next(iter(self._columns.values())))
        return jnp.ones(rows, jnp.float32)

    def gradient(self, params: Tree) -> Tree:
        return self._gradient

    def loss(self, params: Tree) -> jax.Array:
        return jnp.float32(1)

    def __getitem__(self, name: str) -> jax.Array:
        if self._columns is not None:
            return self._columns[name]
        raise PlanError(
            "algorithm",
            given=f"a function that reads the column {name!r}, without the shapes of its update",
            expected="the shapes of the update, which cannot be found without examples",
            do="Give Algorithm(update=lambda params: ...): a pytree with the shapes and dtypes of the update.",
        )
