"""A pytree of parameters as one flat vector, and back.

The order is part of the wire format and never changes: leaves in the order of `jax.tree_util.tree_flatten_with_path`
(dict keys sorted, fields of dataclasses and modules in order of declaration, tuples by index), one after another, each
in row-major order and as float32.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError


@dataclass(frozen=True)
class Slot:
    """The position of a leaf in the vector: `vector[offset : offset + size]`, row-major."""

    path: str
    shape: tuple[int, ...]
    dtype: Any
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """The positions of the leaves of a pytree of floating-point arrays in a float32 vector of length `size`."""

    treedef: Any
    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, tree: Any) -> "Layout":
        """The layout of `tree`, whose leaves are arrays or have a shape and a dtype.

        Raises:
            ModelError: a leaf is not a floating-point array.
        """
        leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
        slots, offset = [], 0
        for path, leaf in leaves:
            name = jax.tree_util.keystr(path)
            if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ModelError(
                    f"parameter {name}",
                    given=getattr(leaf, "dtype", type(leaf).__name__),
                    expected="a floating-point array",
                    do="Keep constants and integers out of the parameters; put only trained arrays into them.",
                )
            slots.append(Slot(name, tuple(leaf.shape), jnp.dtype(leaf.dtype), offset))
            offset += slots[-1].size
        return cls(treedef, tuple(slots))

    @property
    def size(self) -> int:
        return self.slots[-1].offset + self.slots[-1].size if self.slots else 0

    def flatten(self, tree: Any) -> jax.Array:
        """The leaves of `tree` as one vector, float32 `[size]`."""
        leaves = self.treedef.flatten_up_to(tree)
        if not leaves:
            return jnp.zeros((0,), jnp.float32)
        return jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in leaves])

    def unflatten(self, vector: jax.Array) -> Any:
        """The inverse of `flatten`: the tree for `vector` `[size]`, each leaf in its own dtype."""
        leaves = [vector[s.offset : s.offset + s.size].reshape(s.shape).astype(s.dtype) for s in self.slots]
        return jax.tree_util.tree_unflatten(self.treedef, leaves)
