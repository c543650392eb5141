"""How much a function computes, from its jaxpr: a figure that does not depend on the machine."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core
from jax.extend.core import primitives


def multiply_adds(fn: Callable[..., Any], *arguments: Any) -> int:
    """How many multiply-adds a call of `fn` takes; any other operation counts as one for each number it results in.

    A loop of unknown length counts as one pass, and of the branches of a conditional the longest counts.

    Args:
        fn: a function of pytrees of arrays.
        arguments: of the function; shapes are enough.
    """
    return _of(jax.make_jaxpr(fn)(*arguments).jaxpr)


def _of(jaxpr: core.Jaxpr) -> int:
    return sum(_of_equation(eqn) for eqn in jaxpr.eqns)


def _of_equation(eqn: core.JaxprEqn) -> int:
    outputs: list[Any] = [variable.aval for variable in eqn.outvars]
    inner: list[Any] = [
        getattr(part, "jaxpr", part)  # closed, or open
        for value in eqn.params.values()
        for part in (value if isinstance(value, tuple | list) else (value,))
        if isinstance(part, core.Jaxpr | core.ClosedJaxpr)
    ]
    if inner and not eqn.primitive.name.startswith("reduce"):
        counts = [_of(one) for one in inner]
        if eqn.primitive is primitives.scan_p:
            return eqn.params["length"] * sum(counts)
        return max(counts) if eqn.primitive is primitives.cond_p else sum(counts)
    size = sum(math.prod(aval.shape) for aval in outputs)
    operands: list[Any] = [atom.aval for atom in eqn.invars]
    if eqn.primitive is primitives.dot_general_p:
        contracted = eqn.params["dimension_numbers"][0][0]
        return size * math.prod(operands[0].shape[axis] for axis in contracted)
    if eqn.primitive is primitives.conv_general_dilated_p:
        kernel, spec = operands[1].shape, eqn.params["dimension_numbers"].rhs_spec
        return size * math.prod(kernel) // kernel[spec[0]]
    return max(size, *(math.prod(getattr(aval, "shape", ())) for aval in operands)) if operands else size
