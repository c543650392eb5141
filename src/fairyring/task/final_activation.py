"""Whether a program ends in a softmax or a sigmoid: such outputs are probabilities, and not the logits that a loss takes."""

from typing import Any

from jax.extend import core

# Operations that leave each number what it is.
_MOVES = {
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "expand_dims",
    "reshape",
    "slice",
    "squeeze",
    "stop_gradient",
    "transpose",
}
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where an operation keeps the program that it calls


def final_activation(program: core.ClosedJaxpr) -> str:
    """`"softmax"` or `"sigmoid"` if a program has one output, which is that; otherwise an empty string."""
    jaxpr = program.jaxpr
    return _activation(jaxpr, jaxpr.outvars[0]) if len(jaxpr.outvars) == 1 else ""


def _activation(jaxpr: core.Jaxpr, atom: Any) -> str:
    made = {id(out): eqn for eqn in jaxpr.eqns for out in eqn.outvars}
    atom = _before_moves(made, atom)
    eqn = made.get(id(atom))
    if eqn is None:
        return ""
    if eqn.primitive.name == "logistic":
        return "sigmoid"
    if eqn.primitive.name == "div":
        above, below = (_before_moves(made, part) for part in eqn.invars)
        names = [made[id(part)].primitive.name if id(part) in made else "" for part in (above, below)]
        return "softmax" if names == ["exp", "reduce_sum"] else ""
    inner = next((eqn.params[name] for name in _INNER if name in eqn.params), None)
    inner = getattr(inner, "jaxpr", inner)  # of a closed one
    if inner is None or len(inner.outvars) != len(eqn.outvars):
        return ""
    place = next(place for place, out in enumerate(eqn.outvars) if out is atom)
    return _activation(inner, inner.outvars[place])


def _before_moves(made: dict[int, Any], atom: Any) -> Any:
    """What an array was before it was only moved or rounded."""
    while id(atom) in made and made[id(atom)].primitive.name in _MOVES:
        atom = made[id(atom)].invars[0]
    return atom
