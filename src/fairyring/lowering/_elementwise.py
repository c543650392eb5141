"""Whether a function works elementwise, so that its arrays may be padded with zeros."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core

Tree = Any
Transform = Callable[[Tree], Tree]

# fmt: off
_ELEMENTWISE = {
    "abs", "add", "add_any", "and", "clamp", "convert_element_type", "copy", "copy_p", "cos", "div",
    "eq", "exp", "exp2", "expm1", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p",
    "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow", "rsqrt", "select_n", "sign",
    "sin", "sqrt", "square", "squeeze", "stop_gradient", "sub", "tanh", "xor", "broadcast_in_dim",
    "reduce_sum", "jit", "cond",
}
# fmt: on
STEPS = 3


def keeps_padding(
    init: Transform, update: Callable[..., tuple[Tree, Tree]], params: Tree, pad: Transform
) -> bool:
    """Whether an optimiser gives the same updates with padded parameters, and zeros in the padding.

    Three conditions must hold. `init` and `update` consist of elementwise operations, operations on scalars, and sums.
    For padded shapes they have the same operations and constants (this excludes a mean, which divides by the number of
    elements). And for random numbers padded with zeros, a few steps agree, and the padding stays exactly zero. If the
    functions cannot be traced, the answer is False.

    Args:
        init: parameters -> state.
        update: (gradient, state, parameters) -> (updates, state), as in optax.
        params: the parameters, or their shapes and dtypes.
        pad: appends zeros to some leaves of a tree like `params`.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), params)
    padded = jax.eval_shape(pad, shapes)

    def steps(params: Tree, gradients: list[Tree]) -> list[Tree]:
        state, moves = init(params), []
        for gradient in gradients:
            move, state = update(gradient, state, params)
            params = jax.tree.map(lambda w, m: w + m, params, move)
            moves.append(move)
        return moves

    try:
        programs = [jax.make_jaxpr(steps)(tree, [tree] * STEPS).jaxpr for tree in (shapes, padded)]
        if not _same(*programs) or not all(name in _ELEMENTWISE for name, _ in _operations(programs[0])):
            return False
        with jax.ensure_compile_time_eval():
            leaves, treedef = jax.tree.flatten(shapes)
            rng = np.random.default_rng(0)

            def numbers() -> Tree:
                return treedef.unflatten([rng.normal(size=s.shape).astype(s.dtype) for s in leaves])

            start, gradients = numbers(), [numbers() for _ in range(STEPS)]
            expected = [pad(move) for move in jax.jit(steps)(start, gradients)]
            got = jax.jit(steps)(pad(start), [pad(gradient) for gradient in gradients])
            pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
            return all(_agree(np.asarray(a), np.asarray(b)) for a, b in pairs)
    except (TypeError, ValueError, jax.errors.JAXTypeError):
        return False


def _agree(got: np.ndarray, expected: np.ndarray) -> bool:
    zero = expected == 0
    return bool(np.all(got[zero] == 0) and np.allclose(got, expected, rtol=1e-4, atol=1e-6))


def _operations(jaxpr: core.Jaxpr) -> Iterator[tuple[str, list[Any]]]:
    """The operations of a program and of its inner programs, with their constant operands."""
    for eqn in jaxpr.eqns:
        yield (
            eqn.primitive.name,
            [np.asarray(a.val).tolist() for a in eqn.invars if isinstance(a, core.Literal)],
        )
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                if isinstance(inner, core.ClosedJaxpr):
                    yield from _operations(inner.jaxpr)


def _same(one: core.Jaxpr, other: core.Jaxpr) -> bool:
    avals: list[Any] = [var.aval for jaxpr in (one, other) for var in jaxpr.constvars]
    if any(aval.shape for aval in avals):
        return False
    return list(_operations(one)) == list(_operations(other))
