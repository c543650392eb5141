"""What stays slow on a CPU although it could be written otherwise, said in the model's own terms."""

import math
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.extend import core
from jax.extend.core import primitives

from fairyring.lowering._convolution import LARGEST_KERNEL
from fairyring.lowering._pooling import LARGEST_WINDOW

_WORTH_SAYING = 1 << 16  # numbers that are multiplied or compared; below, a slow operation is quick enough
_POOLS = {
    primitives.reduce_window_max_p,
    primitives.reduce_window_sum_p,
    primitives.reduce_window_min_p,
    primitives.reduce_window_p,
}
_OURS = Path(__file__).parents[1]
_INSTALLED = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")}


def complaint(eqn: core.JaxprEqn) -> str | None:
    """What is slow about an equation that has no fast form, and what to write instead; None if nothing is."""
    if eqn.primitive is primitives.conv_general_dilated_p:
        return _of_convolution(eqn)
    return _of_pool(eqn) if eqn.primitive in _POOLS else None


def _of_convolution(eqn: core.JaxprEqn) -> str | None:
    avals: list[Any] = [atom.aval for atom in eqn.invars]
    x, w = avals
    out: Any = eqn.outvars[0].aval
    spec = eqn.params["dimension_numbers"]
    size = [w.shape[axis] for axis in spec.rhs_spec[2:]]
    taps = math.prod(size)
    if eqn.params["batch_group_count"] != 1 or out.size * taps * w.shape[spec.rhs_spec[1]] < _WORTH_SAYING:
        return None  # the former is made by transformations only
    if x.dtype != jnp.float32 or w.dtype != jnp.float32:
        reason, instead = f"it computes in {x.dtype}", "Use float32."
    elif len(size) not in (1, 2):
        reason, instead = f"it has {len(size)} axes of space", "Use one or two."
    elif taps > LARGEST_KERNEL:
        reason = f"its kernel has {taps} places, more than {LARGEST_KERNEL}"
        instead = "Use several smaller kernels one after another, or a stride in a first layer of patches."
    else:
        return None
    return _sentence("convolution", eqn, f"{_shape(x)} with kernel {_shape(w)}", reason, instead)


def _of_pool(eqn: core.JaxprEqn) -> str | None:
    x: Any = eqn.invars[0].aval
    window = math.prod(eqn.params["window_dimensions"])
    out: Any = eqn.outvars[0].aval
    if window == 1 or out.size * window < _WORTH_SAYING or not jnp.issubdtype(x.dtype, jnp.floating):
        return None
    if eqn.primitive not in (primitives.reduce_window_max_p, primitives.reduce_window_sum_p):
        reason, instead = "it is neither a maximum nor a sum", "Use a maximum, or the maximum of minus x."
    elif any(d != 1 for d in eqn.params["window_dilation"]):
        reason, instead = "its window is dilated", "Take every other row and column first."
    elif window > LARGEST_WINDOW:
        reason = f"its window has {window} places, more than {LARGEST_WINDOW}"
        instead = "Reshape and take the mean or maximum of whole axes, or pool twice."
    else:
        return None
    given = f"{_shape(x)} with window {tuple(eqn.params['window_dimensions'])}"
    return _sentence("pool", eqn, given, reason, instead)


def _sentence(kind: str, eqn: core.JaxprEqn, given: str, reason: str, instead: str) -> str:
    layer = _layer(eqn)
    place = (f" in {layer}" if layer else "") + _line(eqn)
    return f"A {kind}{place} trains slowly on a CPU: {given}; {reason}. {instead}"


def _shape(aval: Any) -> str:
    return f"{aval.dtype}[{', '.join(map(str, aval.shape))}]"


def _layer(eqn: core.JaxprEqn) -> str | None:
    """The name of the layer that an equation is of, as far as its library tells it."""
    scopes = re.findall(r"[\w.]+", str(eqn.source_info.name_stack))
    names = [scope for scope in scopes if scope[0].isupper() or ".nn." in scope]
    if names:
        return names[-1]
    for frame in _frames(eqn):
        owner, _, method = frame.function_name.rpartition(".")
        path = Path(frame.file_name)
        if method == "__call__" and "jax" not in path.parts and not path.is_relative_to(_OURS):
            return owner.rpartition(".")[2]
    return None


def _line(eqn: core.JaxprEqn) -> str:
    """The line of the user's own code that an equation is from, innermost first."""
    for frame in _frames(eqn):
        path = Path(frame.file_name)
        if path.is_file() and not any(path.is_relative_to(root) for root in (_OURS, *_INSTALLED)):
            return f" ({path.name}:{frame.line_num})"
    return ""


def _frames(eqn: core.JaxprEqn) -> Iterator[Any]:
    traceback = eqn.source_info.traceback
    yield from () if traceback is None else traceback.frames
