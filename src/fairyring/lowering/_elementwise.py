"""Whether a function works elementwise, so that its arrays may be padded with zeros."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.core import eval_context
from jax.extend import core

from fairyring.core.cores import core_processors
from fairyring.core.program import Program

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


def keeps_padding(fn: Callable[..., Tree], arguments: tuple[Tree, ...], pad: Transform) -> bool:
    """Whether a function of padded trees gives what it gives of the true ones, padded, with its zeros kept.

    Three things must hold. `fn` consists of operations element by element, of scalars, and of sums; they are the same
    operations with the same constants for padded shapes (a mean, divided by the number of elements, is not); and on random
    numbers, padded with zeros, results agree and their padding is exactly zero. Whatever cannot be traced like this does
    not keep padding.

    Args:
        fn: of trees.
        arguments: their shapes and dtypes.
        pad: a tree like an argument or a result -> the same with zeros appended to some leaves.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), arguments)
    padded = jax.eval_shape(lambda *trees: tuple(map(pad, trees)), *shapes)
    try:
        programs = [jax.make_jaxpr(fn)(*trees) for trees in (shapes, padded)]
        if not _same(*(program.jaxpr for program in programs)):
            return False
        if not all(name in _ELEMENTWISE for name, _ in _operations(programs[0].jaxpr)):
            return False
        structure = jax.tree.structure(jax.eval_shape(fn, *shapes))
        with eval_context():  # whatever is being traced
            rng = np.random.default_rng(0)
            values = [rng.normal(size=s.shape).astype(s.dtype) for s in jax.tree.leaves(shapes)]
            tree = jax.tree.structure(shapes).unflatten(values)
            short, long = (
                Program(core.jaxpr_as_fun(program), core_processors(1))(0, *jax.tree.leaves(given))
                for program, given in zip(programs, (tree, tuple(map(pad, tree))), strict=True)
            )
            expected = jax.tree.leaves(pad(structure.unflatten(map(np.asarray, short))))
            return all(_agree(np.asarray(a), np.asarray(b)) for a, b in zip(long, expected, strict=True))
    except (TypeError, ValueError, jax.errors.JAXTypeError):
        return False


def _agree(got: np.ndarray, expected: np.ndarray) -> bool:
    if got.shape != expected.shape:
        return False
    zero = expected == 0
    # What cancels is rounded as its terms are; but a result may be small as a whole, as a small learning rate makes it.
    scale = min(1.0, float(np.max(np.abs(expected), initial=0.0)))
    return bool(np.all(got[zero] == 0) and np.allclose(got, expected, rtol=1e-4, atol=1e-6 * scale))


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
