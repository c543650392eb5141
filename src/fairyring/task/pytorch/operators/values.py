"""What the operators share: the form of a handler, and what may not be translated."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Handler = Callable[..., Any]
"""A function of an operator's arguments, by their names in its schema; `self` and `input` are called `x`, and `from` is called `low`. One that has a parameter
`draw` receives a key where the model is trained, and None where it is evaluated. An argument that a handler does not name must have its
default value."""


class Untranslatable(Exception):
    """An operator cannot be computed with these arguments.

    Args:
        reason: what is not possible.
        do: what to write instead.
    """

    def __init__(self, reason: str, do: str = "Write it with other operators.") -> None:
        self.reason, self.do = reason, do
        super().__init__(reason)


class Missing(NamedTuple):
    """Stands for a result that is not computed; using it is an error.

    Attributes:
        what: the result, for the error.
    """

    what: str


def each(value: int | Sequence[int], count: int) -> list[int]:
    """A setting for each axis: PyTorch takes one number for all of them, too."""
    if not isinstance(value, Sequence):
        return [value] * count
    return list(value) * count if len(value) == 1 else list(value)


def axes_of(dim: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """The axes that a reduction names; all of them for None and for an empty list."""
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return tuple(range(ndim))
    dims = dim if isinstance(dim, Sequence) else [dim]
    return tuple(d % max(ndim, 1) for d in dims) if ndim else ()


def in_floats(x: jax.Array) -> jax.Array:
    """`x` in float32 if it has a smaller type: PyTorch sums those in float32."""
    return x.astype(jnp.float32) if x.dtype in (jnp.bfloat16, jnp.float16) else x
