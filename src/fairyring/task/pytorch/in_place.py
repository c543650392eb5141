"""Operators that change an array in place, such as `relu_` and `add_`, as operators that make a new one.

`run_decompositions` can do that for any graph, but takes seconds and takes more apart than needed. Most modules have only
`inplace=True` and `y += x` on a fresh result, of which there is no view.
"""

from typing import Any

import torch

# Composites that always make a new array. Others may return their argument, as `reshape` and `dropout` do.
_ALWAYS_NEW = {
    f"aten::{name}"
    for name in (
        *(f"{kind}{n}d" for kind in ("conv", "conv_transpose", "max_pool", "avg_pool") for n in (1, 2, 3)),
        *(f"adaptive_{kind}_pool{n}d" for kind in ("avg", "max") for n in (1, 2, 3)),
        "gru",
        "group_norm",
        "instance_norm",
        "layer_norm",
        "linear",
        "lstm",
        "matmul",
        "rnn_relu",
        "rnn_tanh",
        "scaled_dot_product_attention",
    )
}


def out_of_place(graph_module: torch.fx.GraphModule) -> None:
    """Replace the in-place operators of a graph whose arrays have no other name."""
    for node in list(graph_module.graph.nodes):
        functional = _functional(node)
        if functional is None or not _is_only_name(node.args[0]):
            continue
        changed = node.args[0]
        node.target = functional
        changed.replace_all_uses_with(node, delete_user_cb=lambda user, node=node: user > node)
    graph_module.recompile()


def _functional(node: torch.fx.Node) -> Any:
    """The operator that makes a new array, for one that changes its first argument and no other."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or not node.args:
        return None
    changed = [a.name for a in target._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    name = target._schema.name.partition("::")[2]
    if changed != ["self"] or not name.endswith("_") or name.endswith("__"):
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    return getattr(packet, target._overloadname, None) if packet is not None else None


def _is_only_name(value: Any) -> bool:
    """Whether a node's result is new, and no user of it may return a view of it or the same array."""
    source = value
    if not isinstance(value, torch.fx.Node) or value.op != "call_function":
        return False
    if str(value.target) == "<built-in function getitem>":
        source = value.args[0]
    made_new = (
        isinstance(source, torch.fx.Node) and source.op == "call_function" and _makes_new(source.target)
    )
    return made_new and all(
        user.op == "call_function" and (_makes_new(user.target) or _functional(user) is not None)
        for user in value.users
    )


def _makes_new(target: Any) -> bool:
    if not isinstance(target, torch._ops.OpOverload):
        return False
    if target._schema.name in _ALWAYS_NEW:
        return True
    is_composite = torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd")
    return not is_composite and all(out.alias_info is None for out in target._schema.returns)
