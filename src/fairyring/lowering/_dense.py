"""Dense layers stored and differentiated in the form that suits a CPU's vectors.

XLA's loops and Eigen's products are up to three times slower on float32 rows of 62 than of 64 numbers. And a
weight's gradient, written as a sum of outer products over a small batch, fuses with the optimiser's update into one
pass over the weights, where a product of matrices writes the gradient to memory first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

Tree = Any

LANES = 16  # float32 in the widest vector
MOST_ROWS = 20  # of a batch; above, a product of matrices is as fast as a sum of outer products


class Storage(NamedTuple):
    """Parameters as they are kept between training steps, and the function that reads them so.

    Attributes:
        pad: a tree like the parameters -> the same with rows of whole vectors, zeros at their ends.
        unpad: the inverse.
        padded: whether `pad` changes any shape.
        fn: the function of padded parameters. Its gradient is padded too, and zero where the parameters are padded.
    """

    pad: Callable[[Tree], Tree]
    unpad: Callable[[Tree], Tree]
    padded: bool
    fn: Callable[..., Any]

    @classmethod
    def as_given(cls, fn: Callable[..., Any]) -> "Storage":
        """Parameters kept as they are."""
        return cls(lambda tree: tree, lambda tree: tree, False, fn)


def align_dense(
    fn: Callable[..., Any], params: Tree, *rest: Any, pad: bool = True, rows: int = MOST_ROWS
) -> Storage:
    """`fn(params, *rest)` with the weights of its dense layers stored in rows of a multiple of 16 numbers.

    A weight is a float32 matrix of the parameters that `fn` only multiplies with matrices of examples: `x @ w`, or
    `w @ x.T` as a `vmap` of `w @ x` becomes. Its products get a gradient of their own. Every other parameter, and
    a matrix whose rows are shorter than 16, stays as it is. Reverse mode only.

    Args:
        fn: of a tree of arrays and any other trees of arrays. With arguments of other shapes than `rest` its weights
            may be used otherwise: correct, though slower.
        params: arrays, or anything with shape and dtype.
        rest: the same of the other arguments.
        pad: False to leave the parameters' shapes, and weights whose rows are not whole vectors, as they are.
        rows: the largest batch whose weight gradients are sums of outer products.
    """
    leaves, treedef = jax.tree.flatten(params)
    shapes = [jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype) for leaf in leaves]
    traced = jax.make_jaxpr(fn)(treedef.unflatten(shapes), *rest).jaxpr
    candidates = {var: i for i, var in enumerate(traced.invars[: len(leaves)]) if _may_be_weight(var.aval)}
    others = {i for i, is_product in _uses(traced, candidates) if not is_product}
    weights = {i for i, is_product in _uses(traced, candidates) if is_product} - others
    if not pad:
        weights = {i for i in weights if shapes[i].shape[1] % LANES == 0}
    if not weights:
        return Storage.as_given(fn)
    short = {i: -shapes[i].shape[1] % LANES for i in weights}

    def padded(tree: Tree) -> Tree:
        leaves = [
            jnp.pad(leaf, ((0, 0), (0, short[i]))) if short.get(i) else leaf
            for i, leaf in enumerate(treedef.flatten_up_to(tree))
        ]
        return treedef.unflatten(leaves)

    def unpad(tree: Tree) -> Tree:
        true = [
            leaf[:, : shapes[i].shape[1]] if short.get(i) else leaf
            for i, leaf in enumerate(treedef.flatten_up_to(tree))
        ]
        return treedef.unflatten(true)

    def stored(kept: Tree, *rest: Any) -> Any:
        closed, out = jax.make_jaxpr(fn, return_shape=True)(treedef.unflatten(shapes), *rest)
        given = [
            _Weight(leaf, shapes[i].shape[1]) if i in weights else leaf
            for i, leaf in enumerate(treedef.flatten_up_to(kept))
        ]
        values = _evaluate(
            closed.jaxpr, closed.consts, [*given, *map(jnp.asarray, jax.tree.leaves(rest))], rows
        )
        return jax.tree.unflatten(jax.tree.structure(out), values)

    return Storage(padded, unpad, any(short.values()), stored)


@dataclass(frozen=True)
class _Weight:
    """A stored matrix of which the first `columns` columns are true."""

    stored: jax.Array
    columns: int

    def true(self) -> jax.Array:
        return self.stored[:, : self.columns]


def _may_be_weight(aval: Any) -> bool:
    return len(aval.shape) == 2 and aval.dtype == jnp.float32 and aval.shape[1] >= LANES and aval.shape[0] > 1


def _uses(jaxpr: core.Jaxpr, leaves: dict[core.Var, int]) -> Iterator[tuple[int, bool]]:
    """Each use of a leaf in a program, and whether it is a dense layer's product."""
    for eqn in jaxpr.eqns:
        mine = [leaves.get(a) if isinstance(a, core.Var) else None for a in eqn.invars]
        if eqn.primitive is primitives.jit_p:
            inner = eqn.params["jaxpr"].jaxpr
            entered = {var: i for var, i in zip(inner.invars, mine, strict=True) if i is not None}
            yield from _uses(inner, entered) if entered else ()
        else:
            place = _weight_place(eqn)
            yield from ((i, at == place) for at, i in enumerate(mine) if i is not None)
    yield from ((leaves[a], False) for a in jaxpr.outvars if isinstance(a, core.Var) and a in leaves)


def _weight_place(eqn: core.JaxprEqn) -> int | None:
    """Which operand of a product of float32 matrices can be a dense layer's weight: 0, 1 or None."""
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
    return [_true(read(atom)) for atom in jaxpr.outvars]


def _apply(eqn: core.JaxprEqn, operands: list[Any], rows: int) -> Any:
    if any(isinstance(operand, _Weight) for operand in operands):
        place = _weight_place(eqn)
        if eqn.primitive is primitives.jit_p:
            inner = eqn.params["jaxpr"]
            return _evaluate(inner.jaxpr, inner.consts, operands, rows)
        if place is not None and isinstance(operands[place], _Weight):
            weight, x = operands[place], _true(operands[1 - place])
            small = x.shape[0] <= rows
            if place == 1:
                return _times(x, weight.stored, small)[:, : weight.columns]
            x = jnp.pad(x, ((0, 0), (0, weight.stored.shape[1] - weight.columns)))
            return _times_transposed(x, weight.stored, small)
    return eqn.primitive.bind(*map(_true, operands), **eqn.primitive.get_bind_params(eqn.params))


def _true(value: Any) -> Any:
    return value.true() if isinstance(value, _Weight) else value


def _times(x: jax.Array, w: jax.Array, small: bool) -> jax.Array:
    """`x @ w`: `[n, a]`, `[a, b]` -> `[n, b]`."""
    return _small_times(x, w) if small else x @ w


def _times_transposed(x: jax.Array, w: jax.Array, small: bool) -> jax.Array:
    """`w @ x.T`: `[n, b]`, `[a, b]` -> `[a, n]`."""
    return _small_times_transposed(x, w) if small else lax.dot_general(w, x, (((1,), (1,)), ((), ())))


@jax.custom_vjp
def _small_times(x: jax.Array, w: jax.Array) -> jax.Array:
    return x @ w


def _times_backward(kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    # Without the barrier XLA computes x and g again for every element of the weight.
    x, g = lax.optimization_barrier((x, g))
    return g @ w.T, _outer(x, g)


_small_times.defvjp(lambda x, w: (_small_times(x, w), (x, w)), _times_backward)


@jax.custom_vjp
def _small_times_transposed(x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.dot_general(w, x, (((1,), (1,)), ((), ())))


def _transposed_backward(kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    x, g = lax.optimization_barrier((x, g.T))
    return g @ w, _outer(g, x)


_small_times_transposed.defvjp(lambda x, w: (_small_times_transposed(x, w), (x, w)), _transposed_backward)


def _outer(x: jax.Array, g: jax.Array) -> jax.Array:
    """`x.T @ g` as a sum of outer products, one an example: `[n, a]`, `[n, b]` -> `[a, b]`."""
    total = x[0][:, None] * g[0][None, :]
    for i in range(1, x.shape[0]):
        total = total + x[i][:, None] * g[i][None, :]
    return total
