"""An algorithm's device half without examples: as a function of the gradients that its batches would give.

What does not depend on examples can be learned so: the shape of an update, whether padding stays zero, the digest of an algorithm.
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
    """A client whose batches give known gradients.

    Args:
        optimizer: of local training.
        gradients: of its batches, one a step; at least one.
        columns: of each batch; None if nothing is known of them.
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
        """See `fairyring.learning.algorithm.Client`: a step for each of the known gradients."""
        optimizer = optimizer or self._optimizer
        params, state = start, optimizer.init(start)
        total = jax.tree.map(jnp.zeros_like, start)
        for batch in self._batches:
            known = batch.gradient(params)
            direction = known if gradient is None else gradient(params, batch)
            moves, state = optimizer.update(direction, state, params)
            params = jax.tree.map(lambda w, m: w + m.astype(w.dtype), params, moves)
            total = jax.tree.map(jnp.add, total, known)
        count = jnp.float32(len(self._batches))
        mean = jax.tree.map(lambda g: g / count, total) if mean_gradient else None
        return Trained(params, jax.tree.map(jnp.subtract, params, start), count, mean)

    def mean(self, f: Callable[[Batch], Tree]) -> Tree:
        """See `fairyring.learning.algorithm.Client`: that of one batch."""
        return f(self._batches[0])

    def total(self, f: Callable[[Batch], Tree]) -> Tree:
        """See `fairyring.learning.algorithm.Client`: that of one batch."""
        return f(self._batches[0])


class _Batch:
    """A batch whose gradient and loss are the same whatever the parameters."""

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
            given=f"a device half that reads the column {name!r}, and no shape of its update",
            expected="the update's shape, which cannot be known without examples",
            do="Give Algorithm(update=lambda params: ...): a pytree of the update's shapes.",
        )
