"""The numbers of a program as its arguments, so that programs which differ only in them are compiled once.

Two plans that differ in a learning rate or a clip norm trace to the same jaxpr with other literals. `lift` makes arguments of these
literals. What is computed stays the same.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.extend.core import primitives

LARGE = 1 << 20  # bytes

_SCOPE = "literal_numbers"

Params = dict[str, Any]  # of an equation
Numbers = dict[core.Var, core.Literal]  # the literal that each new input of a jaxpr was, in order


class Lifted(NamedTuple):
    """A program with its numbers as arguments.

    Attributes:
        program: a jaxpr whose first inputs are the numbers, before its own.
        numbers: their values, arrays of shape `[]`; and large arrays that the program closes over.
    """

    program: core.ClosedJaxpr
    numbers: list[Any]


def literal_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose numbers `lift` leaves as literals.

    This is for the models and losses of users: a compiler simplifies by their numbers, which seldom differ between runs.
    """

    @wraps(function)
    def scoped(*arguments: Any, **named: Any) -> Any:
        with jax.named_scope(_SCOPE):
            return function(*arguments, **named)

    return scoped


def lift(program: core.ClosedJaxpr) -> Lifted:
    """Make arguments of the floating-point literals of a program and of its inner programs.

    These stay literals: what was traced in `literal_numbers`; what belongs to a function with a derivative of its own; exponents, some of
    which have quicker forms, such as a square; and zeros, except as factors.

    Arrays over `LARGE` that a program closes over become arguments, too: as parts of a program they would be compiled with it.
    """
    jaxpr, numbers = _lift(program.jaxpr)
    values: list[Any] = [_value(literal) for literal in numbers.values()]
    consts = zip(jaxpr.constvars, program.consts, strict=True)
    kept, large = [], []
    for variable, value in consts:
        (large if _bytes(value) > LARGE else kept).append((variable, value))
    jaxpr = jaxpr.replace(
        constvars=[variable for variable, _ in kept],
        invars=[
            *jaxpr.invars[: len(values)],
            *(variable for variable, _ in large),
            *jaxpr.invars[len(values) :],
        ],
        debug_info=_unnamed(jaxpr),
    )
    return Lifted(
        core.ClosedJaxpr(jaxpr, [value for _, value in kept]), values + [value for _, value in large]
    )


def _value(literal: core.Literal) -> np.ndarray:
    aval: Any = literal.aval
    return np.asarray(literal.val, aval.dtype)


def _bytes(value: Any) -> int:
    return math.prod(np.shape(value)) * value.dtype.itemsize if hasattr(value, "dtype") else 0


def _lift(jaxpr: core.Jaxpr) -> tuple[core.Jaxpr, Numbers]:
    """A jaxpr with numbers as its first inputs."""
    numbers: Numbers = {}
    if jaxpr.effects:  # which may name inputs by their places
        return jaxpr, numbers
    equations = []
    for equation in jaxpr.eqns:
        if _SCOPE not in str(equation.source_info.name_stack):
            equation, new = _lift_equation(equation)
            numbers |= new
        equations.append(equation)
    if not numbers:
        return jaxpr, numbers
    inputs = [*numbers, *jaxpr.invars]
    return jaxpr.replace(invars=inputs, eqns=equations, debug_info=_unnamed(jaxpr)), numbers


def _lift_equation(equation: core.JaxprEqn) -> tuple[core.JaxprEqn, Numbers]:
    """An equation that reads its numbers, and those of its inner programs, from variables."""
    numbers: Numbers = {}
    operands = []
    for place, atom in enumerate(equation.invars):
        if isinstance(atom, core.Literal) and _is_number(equation.primitive, place, atom):
            variable = core.Var(atom.aval)
            numbers[variable], atom = atom, variable
        operands.append(atom)
    enter = _ENTER.get(equation.primitive)
    if enter is None:
        return (equation.replace(invars=operands) if numbers else equation), numbers
    params, place, literals = enter(equation.params)
    inner = {core.Var(literal.aval): literal for literal in literals}
    operands[place:place] = inner
    return equation.replace(invars=operands, params=params), numbers | inner


def _is_number(primitive: core.Primitive, place: int, literal: core.Literal) -> bool:
    """Whether a literal operand may as well be an argument."""
    value = np.asarray(literal.val)
    if value.shape or not jnp.issubdtype(value.dtype, jnp.floating) or not np.isfinite(value):
        return False
    if primitive is primitives.pow_p and place == 1:
        return False
    return bool(value != 0) or primitive is primitives.mul_p


# How the inner programs of an equation are lifted: params -> the new params, the place at which the numbers are put among the operands,
# and their literals.


def _enter_jit(params: Params) -> tuple[Params, int, list[core.Literal]]:
    jaxpr, literals = _lift_closed(params["jaxpr"])
    if not literals:
        return params, 0, literals
    n = len(literals)
    placements = {*params["in_shardings"], *params["out_shardings"]}
    if len(placements) > 1:  # its author says where arrays are
        return params, 0, []
    return (
        params
        | {
            "jaxpr": jaxpr,
            "in_shardings": (*placements,) * n + params["in_shardings"],
            "in_layouts": (None,) * n + params["in_layouts"],
            "donated_invars": (False,) * n + params["donated_invars"],
        },
        0,
        literals,
    )


def _enter_scan(params: Params) -> tuple[Params, int, list[core.Literal]]:
    jaxpr, literals = _lift_closed(params["jaxpr"])
    return params | {"jaxpr": jaxpr, "num_consts": params["num_consts"] + len(literals)}, 0, literals


def _enter_while(params: Params) -> tuple[Params, int, list[core.Literal]]:
    jaxpr, literals = _lift_closed(params["body_jaxpr"])  # and not the condition, which compares counts
    n = len(literals)
    params = params | {"body_jaxpr": jaxpr, "body_nconsts": params["body_nconsts"] + n}
    return params, params["cond_nconsts"], literals


def _enter_cond(params: Params) -> tuple[Params, int, list[core.Literal]]:
    lifted = [_lift_closed(branch) for branch in params["branches"]]
    every = [literal for _, literals in lifted for literal in literals]
    branches, before = [], 0
    for closed, literals in lifted:  # every branch takes the numbers of all
        own = closed.jaxpr.invars
        after = before + len(literals)
        inputs = [core.Var(literal.aval) for literal in every]
        inputs[before:after] = own[: len(literals)]
        inputs += own[len(literals) :]
        jaxpr = closed.jaxpr.replace(invars=inputs, debug_info=_unnamed(closed.jaxpr))
        branches.append(core.ClosedJaxpr(jaxpr, closed.consts))
        before = after
    return params | {"branches": tuple(branches)}, 1, every  # after the number of the branch


def _enter_remat(params: Params) -> tuple[Params, int, list[core.Literal]]:
    jaxpr, numbers = _lift(params["jaxpr"])
    return params | {"jaxpr": jaxpr}, 0, list(numbers.values())


def _unnamed(jaxpr: core.Jaxpr) -> Any:
    """What a jaxpr knows of its origin, without the names of its arguments, which JAX shows in errors of tracing."""
    return jaxpr.debug_info._replace(arg_names=None)


def _lift_closed(closed: core.ClosedJaxpr) -> tuple[core.ClosedJaxpr, list[core.Literal]]:
    jaxpr, numbers = _lift(closed.jaxpr)
    return core.ClosedJaxpr(jaxpr, closed.consts), list(numbers.values())


_ENTER: dict[core.Primitive, Callable[[Params], tuple[Params, int, list[core.Literal]]]] = {
    primitives.jit_p: _enter_jit,
    primitives.scan_p: _enter_scan,
    primitives.while_p: _enter_while,
    primitives.cond_p: _enter_cond,
    primitives.remat_p: _enter_remat,
}
