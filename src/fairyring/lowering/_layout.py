"""Operations on arrays whose axes lie in memory in another order than the program names them: the layout of channels last.

A CPU's vectors run over channels, so convolutions are computed with channels last. A program with channels first would
have every result transposed back, and the next operand transposed again. Here a transposition is put off: the array
stays as it is, with a note of which of its axes make up each axis of the program. Elementwise operations, reductions,
pools, padding and reshaping follow that note, up to the first operation that cannot.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

from fairyring.lowering._placed import TINY, Placed, Spread, like, placed, plain
from fairyring.lowering._pooling import Window
from fairyring.lowering._sums import spread_out, sums_apart, total

# fmt: off
_ELEMENTWISE = {
    "abs", "add", "add_any", "and", "atan2", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos",
    "cosh", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow",
    "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow",
    "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient",
    "sub", "tan", "tanh", "xor",
}
# fmt: on
_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"}


def is_followed(eqn: core.JaxprEqn) -> bool:
    """Whether an equation of plain operands has a better form here."""
    name = eqn.primitive.name
    if not eqn.invars or not eqn.outvars:
        return False
    given: Any = eqn.invars[0].aval
    aval: Any = eqn.outvars[0].aval
    if name == "transpose":  # a product takes matrices with their axes in any order
        return aval.ndim > 2 and aval.size >= TINY
    if name == "broadcast_in_dim":
        return aval.ndim > 2 and 1 < given.size < aval.size and aval.size >= TINY
    if name == "reduce_sum":
        return sums_apart(given.shape, eqn.params["axes"])
    if name not in _ELEMENTWISE or aval.ndim < 3:
        return False
    avals: list[Any] = [atom.aval for atom in eqn.invars]
    shapes = [one.shape for one in avals]
    axes = [[a for a, n in enumerate(s) if n != aval.shape[a]] for s in shapes if len(s) == aval.ndim]
    return any(sums_apart(aval.shape, one) for one in axes)


def follow(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    """The results of an equation with operands that are not plain; None if it cannot be computed on them as they lie."""
    name = eqn.primitive.name
    if name in _ELEMENTWISE:
        return _elementwise(eqn, operands)
    if name == "broadcast_in_dim":
        return _broadcast(eqn, operands)
    operands = [plain(o) if isinstance(o, Spread) else o for o in operands]
    if name == "transpose":
        return _transposed(eqn, operands)
    if name in _REDUCTIONS:
        return _reduced(eqn, operands[0])
    if not any(isinstance(o, Placed) for o in operands):
        return None
    if eqn.primitive in (primitives.custom_jvp_call_p, primitives.custom_vjp_call_p):
        return _custom(eqn, operands)
    rule = _RULES.get(name)
    return rule(eqn, operands) if rule else None


def _bind(eqn: core.JaxprEqn, *operands: Any, **changed: Any) -> Any:
    return eqn.primitive.bind(*operands, **(eqn.primitive.get_bind_params(eqn.params) | changed))


def _elementwise(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    aval: Any = eqn.outvars[0].aval
    shape = aval.shape
    whole = [o for o in operands if not isinstance(o, Spread) and jnp.shape(o) == shape and shape]
    model = next((o for o in whole if isinstance(o, Placed)), whole[0] if whole else None)
    if model is None:
        return None
    model = _as_placed(model)
    given = []
    for one in operands:
        own = one if jnp.shape(one) == () else like(one, model)
        if own is None:
            return None
        given.append(own if jnp.shape(own) == () else spread_out(own, model.array.shape))
    out = _bind(eqn, *given)
    return placed(out.reshape(model.array.shape), model.axes)


def _custom(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    """An elementwise function with a derivative of its own, such as `jax.nn.relu`."""
    model = next(o for o in operands if isinstance(o, Placed))
    shape = model.shape
    avals: list[Any] = [atom.aval for atom in (*eqn.invars, *eqn.outvars)]
    if any(a.shape != shape or not jnp.issubdtype(a.dtype, jnp.floating) for a in avals):
        return None
    call = partial(_bind, eqn)
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
    numbers, cotangents = shapes[: len(operands)], shapes[len(operands) :]
    forward = jax.make_jaxpr(call)(*numbers)
    backward = jax.make_jaxpr(lambda x, g: jax.vjp(call, *x)[1](list(g)))(numbers, cotangents)
    if not all(_is_elementwise(one.jaxpr, shape) for one in (forward, backward)):
        return None
    given = [like(o, model) for o in operands]
    if any(one is None for one in given):
        return None

    @jax.custom_vjp
    def anywhere(*numbers: jax.Array) -> list[jax.Array]:
        return _everywhere(forward, numbers)

    anywhere.defvjp(
        lambda *numbers: (_everywhere(forward, numbers), numbers),
        lambda numbers, cotangents: tuple(_everywhere(backward, (*numbers, *cotangents))),
    )
    return [placed(one, model.axes) for one in anywhere(*given)]


def _is_elementwise(jaxpr: core.Jaxpr, shape: tuple[int, ...]) -> bool:
    """Whether each number of a result depends only on the numbers of arguments of `shape` at its own position."""
    results = _uniform(jaxpr, [False] * len(jaxpr.invars), shape)
    return results is not None and not any(results)


def _uniform(jaxpr: core.Jaxpr, arguments: Sequence[bool], shape: tuple[int, ...]) -> list[bool] | None:
    """Whether each result has the same number everywhere, given which arguments have.

    All that have not are of `shape`, and elementwise functions of each other; None if that is not so.
    """
    known: dict[Any, bool] = dict(zip(jaxpr.invars, arguments, strict=True))
    if jaxpr.constvars or any(not known[v] and v.aval.shape != shape for v in known):
        return None

    def is_uniform(atom: Any) -> bool:
        return isinstance(atom, core.Literal) or known[atom]

    for eqn in jaxpr.eqns:
        given = [is_uniform(atom) for atom in eqn.invars]
        inner = _inner(eqn)
        if inner is not None:
            out = _uniform(inner.jaxpr, given, shape)
        elif eqn.primitive.name in _ELEMENTWISE or eqn.primitive.name == "broadcast_in_dim":
            out = [all(given)] * len(eqn.outvars)
        else:
            out = None
        results: list[Any] = list(eqn.outvars)
        if out is None or any(not u and v.aval.shape != shape for u, v in zip(out, results, strict=True)):
            return None
        known.update(zip(eqn.outvars, out, strict=True))
    return [is_uniform(atom) for atom in jaxpr.outvars]


def _inner(eqn: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """The program of an equation that is a call of it."""
    calls = (primitives.jit_p, primitives.custom_jvp_call_p, primitives.custom_vjp_call_p)
    if eqn.primitive not in calls:
        return None
    closed = [v for v in eqn.params.values() if isinstance(v, core.ClosedJaxpr)]
    return closed[0] if len(closed) == 1 and not closed[0].consts else None


def _everywhere(closed: core.ClosedJaxpr, numbers: Sequence[jax.Array]) -> list[jax.Array]:
    """The results of an elementwise program on arrays of any one shape. What is uniform in it is a scalar here."""

    def evaluate(jaxpr: core.Jaxpr, numbers: Sequence[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(zip(jaxpr.invars, numbers, strict=True))

        def read(atom: Any) -> Any:
            dtype = atom.aval.dtype
            return jnp.asarray(atom.val, dtype) if isinstance(atom, core.Literal) else values[atom]

        for eqn in jaxpr.eqns:
            given, inner = [read(atom) for atom in eqn.invars], _inner(eqn)
            if inner is not None:
                out = evaluate(inner.jaxpr, given)
            elif eqn.primitive.name == "broadcast_in_dim":
                out = given[:1]
            else:
                out = _bind(eqn, *jnp.broadcast_arrays(*given))
                out = out if eqn.primitive.multiple_results else [out]
            values.update(zip(eqn.outvars, out, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    return evaluate(closed.jaxpr, numbers)


def _as_placed(x: Any) -> Placed:
    return x if isinstance(x, Placed) else Placed(x, tuple((axis,) for axis in range(x.ndim)))


def _reduced(eqn: core.JaxprEqn, x: Any) -> Any:
    x = _as_placed(x)
    axes = eqn.params["axes"]
    gone = sorted(a for axis in axes for a in x.axes[axis])
    is_sum = eqn.primitive is primitives.reduce_sum_p
    out = total(x.array, gone) if is_sum else _bind(eqn, x.array, axes=tuple(gone))
    left = [a for a in range(x.array.ndim) if a not in gone]
    return placed(out, [[left.index(a) for a in one] for i, one in enumerate(x.axes) if i not in axes])


def _transposed(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    x = _as_placed(operands[0])
    return placed(x.array, [x.axes[axis] for axis in eqn.params["permutation"]])


def _squeezed(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    (x,) = operands
    gone = [d % len(x.axes) for d in eqn.params["dimensions"]]
    return placed(x.array, [one for i, one in enumerate(x.axes) if i not in gone])


def _broadcast(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    x, target, shape = operands[0], eqn.params["broadcast_dimensions"], eqn.params["shape"]
    if len(operands) > 1:
        return None
    if isinstance(x, Placed):
        if math.prod(shape) != x.array.size:
            return None
        axes: list[Sequence[int]] = [()] * len(shape)
        for axis, to in enumerate(target):
            axes[int(to)] = x.axes[axis]
        return placed(x.array, axes)
    own = [1] * len(shape)
    array = x.array if isinstance(x, Spread) else x
    for axis, to in enumerate(target):
        own[int(to)] = array.shape[axis]
    return Spread(array.reshape(own), tuple(shape))


def _reshaped(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    """Axes joined or split."""
    x = operands[0]
    if len(operands) > 1 or eqn.params["dimensions"] is not None:
        return None
    new = regrouped(x.array.shape, x.axes, eqn.params["new_sizes"])
    if new is None:
        return None
    pieces, axes = new
    return placed(x.array.reshape([length for own in pieces for length in own]), axes)


def regrouped(
    shape: Sequence[int], axes: Sequence[Sequence[int]], sizes: Sequence[int]
) -> tuple[list[list[int]], tuple[tuple[int, ...], ...]] | None:
    """How an array in memory is seen by a program that reshapes it to `sizes`; None if numbers would have to move.

    Args:
        shape: of the array.
        axes: as in `Placed`.
        sizes: the new shape.

    Returns:
        For each axis in memory the lengths it is cut into, the slowest first; and the axes of the array so cut.
    """
    queue = [(a, shape[a]) for one in axes for a in one]
    pieces: list[list[int]] = [[] for _ in shape]
    joined: list[list[tuple[int, int]]] = []  # for each new axis, which piece of which axis in memory
    for size in sizes:
        own: list[tuple[int, int]] = []
        while size > 1:
            axis, length = queue.pop(0)
            taken = math.gcd(size, length)
            if taken not in (size, length):
                return None
            own.append((axis, len(pieces[axis])))
            pieces[axis].append(taken)
            size //= taken
            if length > taken:
                queue.insert(0, (axis, length // taken))
        joined.append(own)
    first = [sum(map(len, pieces[:axis])) for axis in range(len(shape))]
    return pieces, tuple(tuple(first[axis] + piece for axis, piece in own) for own in joined)


def _alone(x: Placed, touched: Sequence[bool], *, ordered: bool = False) -> bool:
    """Whether each touched axis is a single axis in memory, and they lie in the order of the program."""
    own = [one for one, t in zip(x.axes, touched, strict=True) if t]
    flat = [a for one in own for a in one]
    return all(len(one) == 1 for one in own) and (not ordered or flat == sorted(flat))


def _spread(x: Placed, values: Sequence[Any], neutral: Any) -> tuple[Any, ...]:
    """A setting of each axis of the program as a setting of each axis in memory."""
    own = [neutral] * x.array.ndim
    for one, value in zip(x.axes, values, strict=True):
        if len(one) == 1:
            own[one[0]] = value
    return tuple(own)


def _padded(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    x, filler = operands
    edges = eqn.params["padding_config"]
    if not isinstance(x, Placed) or not _alone(x, [any(edge) for edge in edges]):
        return None
    return placed(_bind(eqn, x.array, filler, padding_config=_spread(x, edges, (0, 0, 0))), x.axes)


def _sliced(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    (x,) = operands
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * len(starts)
    cuts = list(zip(starts, limits, steps, strict=True))
    whole = [cut == (0, size, 1) for cut, size in zip(cuts, x.shape, strict=True)]
    if not _alone(x, [not w for w in whole]):
        return None
    own = _spread(x, cuts, None)
    own = [cut or (0, size, 1) for cut, size in zip(own, x.array.shape, strict=True)]
    starts, limits, steps = zip(*own, strict=True)
    return placed(lax.slice(x.array, starts, limits, steps), x.axes)


def _concatenated(eqn: core.JaxprEqn, operands: Sequence[Any]) -> Any:
    axis = eqn.params["dimension"]
    model = next(o for o in operands if isinstance(o, Placed))
    if len(model.axes[axis]) != 1:
        return None
    (at,) = model.axes[axis]
    parts = []
    for one in operands:
        if one.shape[axis] == model.shape[axis]:
            part = like(one, model)
        else:
            sizes = list(model.array.shape)
            sizes[at] = one.shape[axis]
            part = like(one, Placed(jax.ShapeDtypeStruct(sizes, model.array.dtype), model.axes))  # pyright: ignore[reportArgumentType]
        if part is None:
            return None
        parts.append(part)
    return placed(lax.concatenate(parts, at), model.axes)


def pooled(x: Placed, pool: Callable[[jax.Array, Window], jax.Array], window: Window) -> Any:
    """A pool of an array as it lies; None if a window spans joined axes, or its members lie in another order."""
    one = zip(window.sizes, window.strides, window.padding, strict=True)
    if not _alone(x, [settings != (1, 1, (0, 0)) for settings in one], ordered=True):
        return None
    sizes, strides = (_spread(x, values, 1) for values in (window.sizes, window.strides))
    return placed(pool(x.array, Window(sizes, strides, _spread(x, window.padding, (0, 0)))), x.axes)


_RULES: dict[str, Callable[[core.JaxprEqn, Sequence[Any]], Any]] = {
    "squeeze": _squeezed,
    "reshape": _reshaped,
    "pad": _padded,
    "slice": _sliced,
    "concatenate": _concatenated,
}
