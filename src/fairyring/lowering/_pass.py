"""Rewriting a program for a CPU: it computes the same numbers, with some operations in a faster form."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.extend.core import primitives

from fairyring.core.errors import PerformanceWarning, PlanError
from fairyring.lowering._convolution import convolve, fast_form_exists
from fairyring.lowering._layout import follow, is_followed, pooled
from fairyring.lowering._placed import Pending, Placed, Spread, plain, settled
from fairyring.lowering._pooling import Window, is_pool, max_pool, sum_pool
from fairyring.lowering._random import draws_threefry_bits, threefry_bits
from fairyring.lowering._recurrence import has_products, recur
from fairyring.lowering._scaled import follow as put_off
from fairyring.lowering._slow import complaint

# Primitives whose inner programs are rewritten. Those with a custom derivative are not, because it belongs to the
# program as its author wrote it.
_ENTERED = (
    primitives.jit_p,
    primitives.scan_p,
    primitives.while_p,
    primitives.cond_p,
    primitives.remat_p,
)
_POOLS = {primitives.reduce_window_max_p: max_pool, primitives.reduce_window_sum_p: sum_pool}


def lower_for_cpu(fn: Callable[..., Any], *, winograd: int = 4) -> Callable[..., Any]:
    """`fn` with its convolutions, max-pools and random bits in forms that are fast on a CPU, forward and backward.

    `fn` is traced to a jaxpr, and the jaxpr is evaluated with these replacements:

    - `conv_general_dilated` in float32 with one or two spatial axes and any layout, stride, padding, dilation and groups: by
      forms with custom gradients (matrix products; Winograd's form for 3x3 kernels of stride 1);
    - `reduce_window_max` and `reduce_window_sum`: by maxima and sums of slices;
    - the order of axes: what follows a convolution with channels first is computed with channels last, up to the first
      operation that needs the program's own order;
    - shifts and scales by small arrays, and sums of what is shifted, as group normalisation has them: one operation for a whole
      layer, with a custom gradient of two sums;
    - `scan`: products with a matrix that is the same in all steps are taken out of the loop, those with inputs forward, and
      the matrix's gradient backward;
    - `random_bits` of Threefry keys: by the same bits, without the loop that JAX compiles on a CPU.

    Everything else is unchanged, including custom derivatives and convolutions with other types or larger
    kernels. The result composes with `jax.grad`, `jit`, `vmap`, `scan` and `jax.export`. Lower first and differentiate
    afterwards: `jax.grad(lower_for_cpu(loss))`. Only reverse mode works, as for every function with a custom vjp.
    Inside `jax.shard_map` it needs `check_vma=False`, because an evaluated jaxpr has no record of mesh axes.

    Args:
        fn: a function of pytrees of arrays, returning pytrees of arrays.
        winograd: 4 for F(4, 3), with a relative error of about 1e-5 in a convolution; 2 for F(2, 3), which is slower and
            has about 1e-6, like the direct form; 0 for the direct form only. In training on MNIST, loss curves with 4
            and with 2 differ equally from those with 0, and four times less than those of different seeds.

    Raises:
        PlanError: `winograd` is not 0, 2 or 4.

    Warns:
        PerformanceWarning: a large convolution or pool has no fast form; once each.
    """
    if winograd not in (0, 2, 4):
        raise PlanError(
            "winograd", given=repr(winograd), expected="0, 2 or 4", do="Leave it out for the default, 4."
        )

    said: set[str] = set()

    @wraps(fn)
    def lowered(*args: Any, **kwargs: Any) -> Any:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        for slow in _complaints(closed.jaxpr):
            if slow not in said:
                said.add(slow)
                warnings.warn(slow, PerformanceWarning, stacklevel=2)
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves((args, kwargs))]
        out = _evaluate(closed.jaxpr, closed.consts, leaves, winograd)
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return lowered


def _evaluate(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any], winograd: int) -> list[Any]:
    """The results of a program, each in the order of its axes."""
    return [plain(value) for value in _values(jaxpr, consts, args, winograd)]


def _values(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any], winograd: int) -> list[Any]:
    """The results of a program, some of them `Placed`."""
    values: dict[core.Var, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        with eqn.ctx.manager:
            out = _apply(eqn, operands, winograd)
        values.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: core.JaxprEqn, operands: Sequence[Any], winograd: int) -> Any:
    is_rewritten = _is_rewritten(eqn)
    has_placed = any(isinstance(operand, Placed | Spread | Pending) for operand in operands)
    if eqn.primitive is primitives.jit_p and (is_rewritten or has_placed):
        inner = eqn.params["jaxpr"]
        return _values(inner.jaxpr, inner.consts, operands, winograd)
    out = put_off(eqn, operands, lambda: _computed(eqn, operands, is_rewritten, winograd))
    return _computed(eqn, operands, is_rewritten, winograd) if out is None else out


def _computed(eqn: core.JaxprEqn, operands: Sequence[Any], is_rewritten: bool, winograd: int) -> Any:
    """The results of an equation, from operands that are computed."""
    operands = [settled(operand) for operand in operands]
    if is_rewritten and eqn.primitive is primitives.conv_general_dilated_p:
        return convolve(*operands, **eqn.params, winograd=winograd)
    if is_rewritten and eqn.primitive in _POOLS:
        pool, window = _POOLS[eqn.primitive], Window.of(**eqn.params)
        out = pooled(operands[0], pool, window) if isinstance(operands[0], Placed) else None
        if out is not None:
            return out
        return pool(plain(operands[0]), window)
    if is_followed(eqn) or any(isinstance(operand, Placed | Spread) for operand in operands):
        out = follow(eqn, operands)
        if out is not None:
            return out
    operands = [plain(operand) for operand in operands]
    if not is_rewritten:
        return eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
    if eqn.primitive is primitives.random_bits_p:
        (key,) = operands
        return threefry_bits(key, eqn.params["shape"])
    if eqn.primitive is primitives.scan_p and has_products(eqn):
        return recur(eqn, operands, partial(_apply, winograd=winograd))
    return _enter(eqn, operands, winograd)


def _is_rewritten(eqn: core.JaxprEqn) -> bool:
    """Whether an equation is replaced, or has an inner equation that is."""
    if eqn.primitive is primitives.conv_general_dilated_p:
        return fast_form_exists(*(atom.aval for atom in eqn.invars), **eqn.params)
    if eqn.primitive in _POOLS:
        return is_pool(eqn.invars[0].aval, **eqn.params)
    if eqn.primitive is primitives.random_bits_p:
        return draws_threefry_bits(eqn.invars[0].aval, **eqn.params)
    if eqn.primitive is primitives.scan_p and has_products(eqn):
        return True
    return eqn.primitive in _ENTERED and any(
        _is_rewritten(inner) for jaxpr in _programs(eqn) for inner in jaxpr.eqns
    )


def _complaints(jaxpr: core.Jaxpr) -> Iterator[str]:
    """What is slow in a program and stays so."""
    for eqn in jaxpr.eqns:
        slow = complaint(eqn)
        if slow is not None and not _is_rewritten(eqn):
            yield slow
        for inner in _programs(eqn):
            yield from _complaints(inner)


def _programs(eqn: core.JaxprEqn) -> list[core.Jaxpr]:
    """The inner programs of an equation."""
    programs = []
    for value in eqn.params.values():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                programs.append(one.jaxpr)
            elif isinstance(one, core.Jaxpr):
                programs.append(one)
    return programs


def _enter(eqn: core.JaxprEqn, operands: Sequence[Any], winograd: int) -> Any:
    """Bind an equation with its inner programs rewritten."""
    if eqn.primitive is primitives.remat_p:  # the only primitive whose program is not closed
        inner = partial(_evaluate, eqn.params["jaxpr"], (), winograd=winograd)
        settings = {name: eqn.params[name] for name in ("prevent_cse", "policy")}
        return jax.checkpoint(lambda *args: inner(args), **settings)(*operands)

    def rewritten(value: Any) -> Any:
        if isinstance(value, core.ClosedJaxpr):
            inner = partial(_evaluate, value.jaxpr, value.consts, winograd=winograd)
            return jax.make_jaxpr(lambda *args: inner(args))(*map(_like, value.in_avals))
        return tuple(map(rewritten, value)) if isinstance(value, tuple) else value

    params = {
        name: rewritten(value) if "jaxpr" in name or name == "branches" else value
        for name, value in eqn.params.items()
    }
    return eqn.primitive.bind(*operands, **params)


def _like(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
