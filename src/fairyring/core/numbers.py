"""The numbers of a program as its arguments, so that programs which differ only in them are compiled once.

Two plans that differ in a learning rate or a clip norm trace to the same jaxpr with other numbers. `lift` makes arguments of these
numbers. What is computed stays the same.
"""

import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend import core
from jax.extend.core import primitives

LARGE = 1 << 20  # bytes

_JAX = str(Path(jax.__file__).parent)
_OURS = str(Path(__file__).parents[1])
_SCOPE = "literal_numbers"

Params = dict[str, Any]  # of an equation
Instruction = tuple[Any, int]  # a code object, and a place in it


class Number(NamedTuple):
    """A number of a program. Where several equations come from one place in a source, as in an unrolled loop, equal ones are one number.

    Attributes:
        bits: its value.
        dtype: name of its type.
        weak: whether its type gives way to that of an array.
        origin: the instruction that wrote it, and the nearest one of this package, which tells apart what two halves of a plan do with
            the same optimiser.
    """

    bits: bytes
    dtype: str
    weak: bool
    origin: tuple[Instruction | None, Instruction | None]

    @property
    def value(self) -> np.ndarray:
        """An array of shape `[]`."""
        return np.frombuffer(self.bits, jnp.dtype(self.dtype)).reshape(())

    @property
    def aval(self) -> Any:
        """Its type as JAX has it."""
        return ShapedArray((), jnp.dtype(self.dtype), weak_type=self.weak)


Numbers = dict[Number, core.Var]  # the new input of a jaxpr that each number is, in order


class Lifted(NamedTuple):
    """A program with its numbers as arguments.

    Attributes:
        program: a jaxpr whose first inputs are the numbers, before its own.
        numbers: their values, arrays of shape `[]`; and large arrays that the program closes over.
    """

    program: core.ClosedJaxpr
    numbers: list[Any]


def literal_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose numbers `lift` leaves as numbers.

    This is for the models and losses of users: a compiler simplifies by their numbers, which seldom differ between runs.
    """

    @wraps(function)
    def scoped(*arguments: Any, **named: Any) -> Any:
        with jax.named_scope(_SCOPE):
            return function(*arguments, **named)

    return scoped


def lift(program: core.ClosedJaxpr) -> Lifted:
    """Make arguments of the floating-point numbers of a program and of its inner programs.

    These stay numbers: what was traced in `literal_numbers`; what belongs to a function with a derivative of its own; exponents, some of
    which have quicker forms, such as a square; and zeros, except as factors.

    Arrays over `LARGE` that a program closes over become arguments, too: as parts of a program they would be compiled with it.
    """
    jaxpr, numbers = _lift(program.jaxpr)
    values: list[Any] = [number.value for number in numbers]
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


def _bytes(value: Any) -> int:
    return math.prod(np.shape(value)) * value.dtype.itemsize if hasattr(value, "dtype") else 0


def _lift(jaxpr: core.Jaxpr) -> tuple[core.Jaxpr, Numbers]:
    """A jaxpr with numbers as its first inputs."""
    numbers: Numbers = {}
    if jaxpr.effects:  # which may name inputs by their places
        return jaxpr, numbers
    equations = [
        equation if _SCOPE in str(equation.source_info.name_stack) else _lift_equation(equation, numbers)
        for equation in jaxpr.eqns
    ]
    if not numbers:
        return jaxpr, numbers
    inputs = [*numbers.values(), *jaxpr.invars]
    return jaxpr.replace(invars=inputs, eqns=equations, debug_info=_unnamed(jaxpr)), numbers


def _lift_equation(equation: core.JaxprEqn, numbers: Numbers) -> core.JaxprEqn:
    """An equation that reads its numbers, and those of its inner programs, from `numbers`, to which they are added."""

    def variable(number: Number) -> core.Var:
        return numbers.setdefault(number, core.Var(number.aval))

    operands = [
        variable(_number(equation, atom))
        if isinstance(atom, core.Literal) and _is_number(equation.primitive, place, atom)
        else atom
        for place, atom in enumerate(equation.invars)
    ]
    enter = _ENTER.get(equation.primitive)
    if enter is None:
        return equation.replace(invars=operands)
    params, place, inner = enter(equation.params)
    operands[place:place] = map(variable, inner)
    return equation.replace(invars=operands, params=params)


def _is_number(primitive: core.Primitive, place: int, literal: core.Literal) -> bool:
    """Whether a literal operand may as well be an argument."""
    value = np.asarray(literal.val)
    if value.shape or not jnp.issubdtype(value.dtype, jnp.floating) or not np.isfinite(value):
        return False
    if primitive is primitives.pow_p and place == 1:
        return False
    return bool(value != 0) or primitive is primitives.mul_p


def _number(equation: core.JaxprEqn, literal: core.Literal) -> Number:
    aval: Any = literal.aval
    frames: list[Instruction] = []
    if equation.source_info.traceback is not None:
        frames += zip(*equation.source_info.traceback.raw_frames(), strict=True)
    origin = (
        next((frame for frame in frames if not frame[0].co_filename.startswith(_JAX)), None),
        next((frame for frame in frames if frame[0].co_filename.startswith(_OURS)), None),
    )
    value = np.asarray(literal.val, aval.dtype)
    return Number(value.tobytes(), aval.dtype.name, aval.weak_type, origin)


# How the inner programs of an equation are lifted: params -> the new params, the place at which the numbers are put among the operands,
# and their numbers.


def _enter_jit(params: Params) -> tuple[Params, int, list[Number]]:
    jaxpr, numbers = _lift_closed(params["jaxpr"])
    if not numbers:
        return params, 0, numbers
    n = len(numbers)
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
        numbers,
    )


def _enter_scan(params: Params) -> tuple[Params, int, list[Number]]:
    jaxpr, numbers = _lift_closed(params["jaxpr"])
    return params | {"jaxpr": jaxpr, "num_consts": params["num_consts"] + len(numbers)}, 0, numbers


def _enter_while(params: Params) -> tuple[Params, int, list[Number]]:
    jaxpr, numbers = _lift_closed(params["body_jaxpr"])  # and not the condition, which compares counts
    n = len(numbers)
    params = params | {"body_jaxpr": jaxpr, "body_nconsts": params["body_nconsts"] + n}
    return params, params["cond_nconsts"], numbers


def _enter_cond(params: Params) -> tuple[Params, int, list[Number]]:
    lifted = [_lift_closed(branch) for branch in params["branches"]]
    every = list(dict.fromkeys(number for _, numbers in lifted for number in numbers))
    branches = []
    for closed, numbers in lifted:  # every branch takes the numbers of all
        own = dict(zip(numbers, closed.jaxpr.invars, strict=False))
        inputs = [own.get(number) or core.Var(number.aval) for number in every]
        inputs += closed.jaxpr.invars[len(numbers) :]
        jaxpr = closed.jaxpr.replace(invars=inputs, debug_info=_unnamed(closed.jaxpr))
        branches.append(core.ClosedJaxpr(jaxpr, closed.consts))
    return params | {"branches": tuple(branches)}, 1, every  # after the number of the branch


def _enter_remat(params: Params) -> tuple[Params, int, list[Number]]:
    jaxpr, numbers = _lift(params["jaxpr"])
    return params | {"jaxpr": jaxpr}, 0, list(numbers)


def _unnamed(jaxpr: core.Jaxpr) -> Any:
    """What a jaxpr knows of its origin, without the names of its arguments, which JAX shows in errors of tracing."""
    return jaxpr.debug_info._replace(arg_names=None)


def _lift_closed(closed: core.ClosedJaxpr) -> tuple[core.ClosedJaxpr, list[Number]]:
    jaxpr, numbers = _lift(closed.jaxpr)
    return core.ClosedJaxpr(jaxpr, closed.consts), list(numbers)


_ENTER: dict[core.Primitive, Callable[[Params], tuple[Params, int, list[Number]]]] = {
    primitives.jit_p: _enter_jit,
    primitives.scan_p: _enter_scan,
    primitives.while_p: _enter_while,
    primitives.cond_p: _enter_cond,
    primitives.remat_p: _enter_remat,
}
