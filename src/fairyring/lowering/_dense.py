"""Dense layers, stored and differentiated in the form that suits a CPU's vectors.

XLA's loops and Eigen's products are up to three times slower with float32 rows of 62 numbers than with rows of 64. For a
small batch the product with a matrix of shape `[outputs, inputs]` takes up to three times as long as with its transpose. The
gradient of a weight, written as a sum of outer products over a small batch, fuses with the optimiser's update into one
pass over the weights; a matrix product would write the gradient to memory first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

Tree = Any

LANES = 16  # float32 numbers in the widest vector
MOST_ROWS = 20  # of a batch; above, a matrix product is as fast as a sum of outer products


class Storage(NamedTuple):
    """The form of parameters between training steps, and a function that takes them in this form.

    Attributes:
        pad: takes a tree like the parameters, transposes some matrices, and pads rows with zeros to a multiple of the vector length.
        unpad: the inverse of `pad`.
        share: the share of the parameters in leaves that `pad` changes.
        fn: the function of padded parameters. Its gradient is padded, too, and is zero in the padding.
    """

    pad: Callable[[Tree], Tree]
    unpad: Callable[[Tree], Tree]
    share: float
    fn: Callable[..., Any]

    @property
    def padded(self) -> bool:
        """Whether `pad` changes anything."""
        return self.share > 0

    @classmethod
    def as_given(cls, fn: Callable[..., Any]) -> "Storage":
        """Parameters in their own form."""
        return cls(lambda tree: tree, lambda tree: tree, 0.0, fn)


def align_dense(
    fn: Callable[..., Any],
    params: Tree,
    *rest: Any,
    pad: bool = True,
    transpose: bool = False,
    rows: int = MOST_ROWS,
) -> Storage:
    """`fn(params, *rest)` with the weights of its dense layers stored in rows whose length is a multiple of 16.

    A weight is a float32 matrix among the parameters that `fn` only multiplies with matrices of examples: `x @ w`, or
    `w @ x.T`, which is what `vmap` makes of `w @ x`. These products get a custom gradient. All other parameters, and
    matrices with rows shorter than 16, are stored unchanged. Reverse mode only.

    Args:
        fn: a function of a tree of arrays and other trees of arrays. It may be called with other shapes than those of
            `rest`; if it then uses its weights differently, the result is correct, but slower.
        params: arrays, or objects with shape and dtype.
        rest: the other arguments, likewise.
        pad: False to keep the parameters' shapes; weights whose rows are not a multiple of 16 are then unchanged.
        transpose: True to store as `w.T` what is only used as `w @ x.T` with small batches. It takes two passes over the
            weights to come and go, and saves about a third of one in each step.
        rows: the largest batch that is small: for it the gradient of a weight is a sum of outer products.
    """
    leaves, treedef = jax.tree.flatten(params)
    shapes = [jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype) for leaf in leaves]
    traced = jax.make_jaxpr(fn)(treedef.unflatten(shapes), *rest).jaxpr
    candidates = {var: i for i, var in enumerate(traced.invars[: len(leaves)]) if _may_be_weight(var.aval)}
    uses = list(_uses(traced, candidates))
    weights = {i for i, _ in uses} - {i for i, use in uses if use is None}
    turned: set[int] = set()
    if pad and transpose:
        turned = {i for i in weights if shapes[i].shape[0] >= LANES}
        turned -= {i for i, use in uses if use is None or use[0] == 1 or use[1] > rows}

    def row(i: int) -> int:
        """The length of a stored row, without padding."""
        return shapes[i].shape[0 if i in turned else 1]

    if not pad:
        weights = {i for i in weights if row(i) % LANES == 0}
    if not weights:
        return Storage.as_given(fn)
    short = {i: -row(i) % LANES for i in weights}

    def padded(tree: Tree) -> Tree:
        def one(i: int, leaf: jax.Array) -> jax.Array:
            leaf = leaf.T if i in turned else leaf
            if not short.get(i):
                return leaf
            pad: Any = np.pad if isinstance(leaf, np.ndarray) else jnp.pad
            return pad(leaf, ((0, 0), (0, short[i])))

        return treedef.unflatten([one(i, leaf) for i, leaf in enumerate(treedef.flatten_up_to(tree))])

    def unpad(tree: Tree) -> Tree:
        def one(i: int, leaf: jax.Array) -> jax.Array:
            leaf = leaf[:, : row(i)] if short.get(i) else leaf
            return leaf.T if i in turned else leaf

        return treedef.unflatten([one(i, leaf) for i, leaf in enumerate(treedef.flatten_up_to(tree))])

    def stored(kept: Tree, *rest: Any) -> Any:
        closed, out = jax.make_jaxpr(fn, return_shape=True)(treedef.unflatten(shapes), *rest)
        given = [
            _Weight(leaf, row(i), i in turned) if i in weights else leaf
            for i, leaf in enumerate(treedef.flatten_up_to(kept))
        ]
        values = _evaluate(
            closed.jaxpr, closed.consts, [*given, *map(jnp.asarray, jax.tree.leaves(rest))], rows
        )
        return jax.tree.unflatten(jax.tree.structure(out), values)

    changed = sum(shapes[i].size for i in weights if i in turned or short[i])
    return Storage(padded, unpad, changed / sum(shape.size for shape in shapes), stored)


@dataclass(frozen=True)
class _Weight:
    """A stored matrix; all but its first `columns` columns are padding. It may be `turned`: the transpose of the program's."""

    stored: jax.Array
    columns: int
    turned: bool

    def unpadded(self) -> jax.Array:
        own = self.stored[:, : self.columns]
        return own.T if self.turned else own


def _may_be_weight(aval: Any) -> bool:
    return len(aval.shape) == 2 and aval.dtype == jnp.float32 and aval.shape[1] >= LANES and aval.shape[0] > 1


def _uses(jaxpr: core.Jaxpr, leaves: dict[core.Var, int]) -> Iterator[tuple[int, tuple[int, int] | None]]:
    """Each use of a leaf in a program: as which operand of a dense layer's product, with how many examples; None for others."""
    for eqn in jaxpr.eqns:
        indices = [leaves.get(a) if isinstance(a, core.Var) else None for a in eqn.invars]
        if eqn.primitive is primitives.jit_p:
            inner = eqn.params["jaxpr"].jaxpr
            entered = {var: i for var, i in zip(inner.invars, indices, strict=True) if i is not None}
            yield from _uses(inner, entered) if entered else ()
        else:
            place = _weight_place(eqn)
            examples: Any = None if place is None else eqn.invars[1 - place].aval
            for at, i in enumerate(indices):
                if i is not None:
                    yield i, (at, examples.shape[0]) if at == place else None
    yield from ((leaves[a], None) for a in jaxpr.outvars if isinstance(a, core.Var) and a in leaves)


def _weight_place(eqn: core.JaxprEqn) -> int | None:
    """The operand of a product of float32 matrices that can be the weight of a dense layer: 0, 1 or None."""
    if eqn.primitive is not primitives.dot_general_p:
        return None
    avals: list[Any] = [atom.aval for atom in (*eqn.invars, *eqn.outvars)]
    if any(len(aval.shape) != 2 for aval in avals[:2]) or any(aval.dtype != jnp.float32 for aval in avals):
        return None
    if eqn.params["precision"] is not None:
        return None
    return {(((1,), (0,)), ((), ())): 1, (((1,), (1,)), ((), ())): 0}.get(
        _frozen(eqn.params["dimension_numbers"])
    )


def _frozen(numbers: Any) -> Any:
    return tuple(tuple(map(tuple, pair)) for pair in numbers)


def _evaluate(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any], rows: int) -> list[Any]:
    values: dict[core.Var, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        with eqn.ctx.manager:
            out = _apply(eqn, operands, rows)
        values.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
    return [_unpadded(read(atom)) for atom in jaxpr.outvars]


def _apply(eqn: core.JaxprEqn, operands: list[Any], rows: int) -> Any:
    if any(isinstance(operand, _Weight) for operand in operands):
        place = _weight_place(eqn)
        if eqn.primitive is primitives.jit_p:
            inner = eqn.params["jaxpr"]
            return _evaluate(inner.jaxpr, inner.consts, operands, rows)
        if place is not None and isinstance(operands[place], _Weight):
            weight, x = operands[place], _unpadded(operands[1 - place])
            small = x.shape[0] <= rows
            if weight.turned and place == 0:
                return _times(x, weight.stored, weight.columns, small).T
            if weight.turned:
                return eqn.primitive.bind(x, weight.unpadded(), **eqn.primitive.get_bind_params(eqn.params))
            if place == 1:
                return _times(x, weight.stored, weight.columns, small)
            x = jnp.pad(x, ((0, 0), (0, weight.stored.shape[1] - weight.columns)))
            return _times_transposed(x, weight.stored, small)
    return eqn.primitive.bind(*map(_unpadded, operands), **eqn.primitive.get_bind_params(eqn.params))


def _unpadded(value: Any) -> Any:
    return value.unpadded() if isinstance(value, _Weight) else value


def _times(x: jax.Array, w: jax.Array, columns: int, small: bool) -> jax.Array:
    """The first columns of `x @ w`: `[n, a]`, `[a, b]` -> `[n, columns]`; the others are zero."""
    return _small_times(x, w, columns) if small else (x @ w)[:, :columns]


def _times_transposed(x: jax.Array, w: jax.Array, small: bool) -> jax.Array:
    """`w @ x.T`: `[n, b]`, `[a, b]` -> `[a, n]`."""
    return _small_times_transposed(x, w) if small else lax.dot_general(w, x, (((1,), (1,)), ((), ())))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _small_times(x: jax.Array, w: jax.Array, columns: int) -> jax.Array:
    return (x @ w)[:, :columns]


def _times_backward(
    columns: int, kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    # Without the barrier, XLA recomputes x and g for every element of the weight.
    x, g = lax.optimization_barrier((x, _widened(g, w)))
    return g @ w.T, _outer(x, g)


_small_times.defvjp(lambda x, w, columns: (_small_times(x, w, columns), (x, w)), _times_backward)


def _widened(g: jax.Array, w: jax.Array) -> jax.Array:
    """`g` `[n, columns]` with zeros up to the width of `w`.

    XLA fuses a padding with all that makes `g`, which is then computed number by number. It fuses nothing with a
    concatenation of long rows, unless it sees that these are zeros; so they are taken from the padding of `w`.
    """
    (n, columns), (rows, width) = g.shape, w.shape
    if columns == width:
        return g
    if n > rows:
        return jnp.pad(g, ((0, 0), (0, width - columns)))
    return jnp.concatenate([g, w[:n, columns:]], axis=1)


@jax.custom_vjp
def _small_times_transposed(x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.dot_general(w, x, (((1,), (1,)), ((), ())))


def _transposed_backward(kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    x, g = lax.optimization_barrier((x, g.T))
    return g @ w, _outer(g, x)


_small_times_transposed.defvjp(lambda x, w: (_small_times_transposed(x, w), (x, w)), _transposed_backward)


def _outer(x: jax.Array, g: jax.Array) -> jax.Array:
    """`x.T @ g` as a sum of outer products, one per example: `[n, a]`, `[n, b]` -> `[a, b]`."""
    total = x[0][:, None] * g[0][None, :]
    for i in range(1, x.shape[0]):
        total = total + x[i][:, None] * g[i][None, :]
    return total
