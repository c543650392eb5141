"""An algorithm's device half without examples: on batches whose losses are known functions of the parameters.

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
    """A client whose batches have the loss `1 + sum((params + known)^2) / 2`, and so the gradient `params + known`.

    It depends on the parameters, so that an algorithm that takes a gradient elsewhere, or a gradient of a gradient, has another
    program here too.

    Args:
        optimizer: of local training.
        known: of its batches, one a step, like the parameters; at least one.
        columns: of each batch; None if nothing is known of them.
    """

    def __init__(
        self,
        optimizer: optax.GradientTransformation,
        known: Sequence[Tree],
        columns: Mapping[str, jax.Array] | None = None,
    ) -> None:
        self._optimizer, self._known, self._columns = optimizer, known, columns

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
        """See `fairyring.learning.algorithm.Client`: a step for each of the batches.

        Given `epochs` or `steps`, there are as many all the same; a factor of each step and of their number stands for them.
        """
        optimizer = optimizer or self._optimizer
        factor = None if epochs is None else 1 + epochs
        if steps is not None:
            factor = -1 - steps
        params, state = start, optimizer.init(start)
        total = jax.tree.map(jnp.zeros_like, start)
        for known in self._known:
            batch = _Batch(known, self._columns)
            plain = batch.gradient(params)
            direction = plain if gradient is None else gradient(params, batch)
            if factor is not None:
                direction = jax.tree.map(lambda g: (g * factor).astype(g.dtype), direction)
            moves, state = optimizer.update(direction, state, params)
            params = jax.tree.map(lambda w, m: w + m.astype(w.dtype), params, moves)
            total = jax.tree.map(jnp.add, total, plain)
        # Of traced operations: no program may hold it as a constant, as if it were known.
        count = jnp.zeros(()) + len(self._known)
        if factor is not None:
            count = count * factor
        mean = jax.tree.map(lambda g: g / count, total) if mean_gradient else None
        return Trained(params, jax.tree.map(jnp.subtract, params, start), count, mean)

    def mean(self, f: Callable[[Batch], Tree]) -> Tree:
        """See `fairyring.learning.algorithm.Client`."""
        count = jnp.float32(len(self._known) * _rows(self._columns))
        total = self.total(lambda batch: jax.tree.map(lambda leaf: leaf * jnp.sum(batch.mask), f(batch)))
        return jax.tree.map(lambda leaf: leaf / count, total)

    def total(self, f: Callable[[Batch], Tree]) -> Tree:
        """See `fairyring.learning.algorithm.Client`."""
        first, *others = (f(_Batch(known, self._columns)) for known in self._known)
        return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), first, *others)


class _Batch:
    """A batch of a known loss."""

    def __init__(self, known: Tree, columns: Mapping[str, jax.Array] | None) -> None:
        self._known, self._columns = known, columns

    @property
    def mask(self) -> jax.Array:
        return jnp.ones(_rows(self._columns), jnp.float32)

    def gradient(self, params: Tree) -> Tree:
        return jax.tree.map(lambda p, k: p + k, params, self._known)

    def loss(self, params: Tree) -> jax.Array:
        squares = jax.tree.map(
            lambda p, k: jnp.sum(jnp.square((p + k).astype(jnp.float32))), params, self._known
        )
        return jnp.float32(1) + 0.5 * sum(jax.tree.leaves(squares), jnp.float32(0))

    def __getitem__(self, name: str) -> jax.Array:
        if self._columns is not None:
            return self._columns[name]
        raise PlanError(
            "algorithm",
            given=f"a function that reads the column {name!r}, without the shapes of its update",
            expected="the shapes of the update, which cannot be found without examples",
            do="Give Algorithm(update=lambda params: ...): a pytree with the shapes and dtypes of the update.",
        )


def _rows(columns: Mapping[str, jax.Array] | None) -> int:
    return 1 if columns is None else len(next(iter(columns.values())))
