"""A graph of PyTorch's operators as a function of JAX arrays."""

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, Never

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from torch.export import ExportedProgram
from torch.utils._pytree import tree_unflatten

from fairyring.core.errors import ModelError
from fairyring.task.pytorch.exporting import CHECKS, STOP
from fairyring.task.pytorch.operators import OPERATORS, Handler, Missing, Untranslatable
from fairyring.task.pytorch.place import layer_of, place_of
from fairyring.task.pytorch.weights import Weights, to_numpy

# Arguments that say how something is computed or stored, and not what.
_IMMATERIAL = {
    "copy",
    "cudnn_enable",
    "cudnn_enabled",
    "device",
    "generator",
    "implicit",
    "layout",
    "memory_format",
    "non_blocking",
    "pin_memory",
    "sparse",
    "sparse_grad",
}
_RENAMED = {"self": "x", "input": "x", "from": "low"}


class Program:
    """The program of an exported module: `(params, x, key) -> outputs`.

    Args:
        exported: the graph.
        weights: the module's parameters.

    Attributes:
        rows: how many examples a batch must have; None for any number.

    Raises:
        ModelError: an operator is not in the table, or has arguments that are not translated.
    """

    def __init__(self, exported: ExportedProgram, weights: Weights) -> None:
        self._block = _Block(exported.graph_module, count())
        self._inputs: list[str | np.ndarray | None] = []
        self.rows: int | None = None
        for spec in exported.graph_signature.input_specs:
            kind, target = spec.kind.name, str(spec.target)
            if kind == "USER_INPUT":
                self._inputs.append(None)
                self.rows = _rows(exported, spec.arg.name)
            elif kind == "PARAMETER" and weights.owner.get(target) in weights.trained:
                self._inputs.append(weights.owner[target])
            else:
                constants = exported.constants
                tensor = constants[target] if target in constants else exported.state_dict[target]
                self._inputs.append(to_numpy(tensor))  # pyright: ignore[reportArgumentType]
        self._outputs = [spec.kind.name == "USER_OUTPUT" for spec in exported.graph_signature.output_specs]
        self._structure = exported.call_spec.out_spec

    def __call__(self, params: dict[str, jax.Array], x: jax.Array, key: jax.Array | None) -> Any:
        """The module's outputs for a batch; of a mapping with logits, as Hugging Face's models return, the logits.

        Args:
            params: name -> array.
            x: the batch.
            key: for dropout and random numbers; None in evaluation.
        """
        operands = [
            x if one is None else params[one] if isinstance(one, str) else jnp.asarray(one)
            for one in self._inputs
        ]
        outputs = self._block(operands, key)
        own = [out for out, is_own in zip(outputs, self._outputs, strict=True) if is_own]
        result = tree_unflatten(own, self._structure)  # pyright: ignore[reportArgumentType]
        return result["logits"] if isinstance(result, Mapping) and "logits" in result else result


def _rows(exported: ExportedProgram, name: str) -> int | None:
    node = next(node for node in exported.graph.nodes if node.op == "placeholder" and node.name == name)
    rows = node.meta["val"].shape[0]
    return rows if isinstance(rows, int) else None


class _Step(NamedTuple):
    """A node that is computed.

    Attributes:
        node: of the graph.
        handler: what computes it.
        args, kwargs: its arguments; where one is a node, its value is taken.
        draw: the number of its key, if it draws random numbers.
        dtypes: the types of its results, in the form of the results.
    """

    node: torch.fx.Node
    handler: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    draw: int | None
    dtypes: Any


class _Block:
    """A graph, or a graph within one: `(operands, key) -> outputs`."""

    def __init__(self, graph_module: torch.fx.GraphModule, numbers: Iterator[int]) -> None:
        self._placeholders: list[torch.fx.Node] = []
        self._fixed: dict[torch.fx.Node, Any] = {}
        self._steps: list[_Step] = []
        self._outputs: Any = ()
        for node in graph_module.graph.nodes:
            if node.op == "placeholder":
                self._placeholders.append(node)
            elif node.op == "get_attr":
                value = graph_module
                for name in str(node.target).split("."):
                    value = getattr(value, name)
                own = isinstance(value, torch.fx.GraphModule)
                self._fixed[node] = _Block(value, numbers) if own else to_numpy(value)  # pyright: ignore
            elif node.op == "output":
                self._outputs = node.args[0]
            elif str(node.target) not in CHECKS:
                self._steps.append(_step(node, numbers))

    def __call__(self, operands: Sequence[Any], key: jax.Array | None) -> Any:
        values = dict(zip(self._placeholders, operands, strict=True))
        for node, fixed in self._fixed.items():
            values[node] = fixed if isinstance(fixed, _Block) else jnp.asarray(fixed)
        for step in self._steps:
            args, kwargs = _filled(step.args, values), _filled(step.kwargs, values)
            if step.draw is not None:
                kwargs["draw"] = None if key is None else jax.random.fold_in(key, step.draw)
            if any(isinstance(value, _Block) for value in args):
                kwargs["key"] = key
            try:
                with jax.named_scope(_scope(step.node)):
                    out = step.handler(*args, **kwargs)
            except Untranslatable as error:
                _refuse(step.node, error.reason, error.do)
            if isinstance(out, Missing) and step.node.users:
                _refuse(step.node, f"it uses {out.what}, which are not computed", "Leave this result unused.")
            values[step.node] = _typed(out, step.dtypes)
        return _filled(self._outputs, values)


def _scope(node: torch.fx.Node) -> str:
    """The name under which a warning about a slow operation finds the layer."""
    path, kind = layer_of(node)
    return f"{kind}.{path}" if path else "module"


def _filled(value: Any, values: dict[torch.fx.Node, Any]) -> Any:
    """An argument with the values of its nodes."""
    if isinstance(value, torch.fx.Node):
        return values[value]
    if isinstance(value, list | tuple):
        return type(value)(_filled(one, values) for one in value)
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    if isinstance(value, slice):
        return slice(*(_filled(one, values) for one in (value.start, value.stop, value.step)))
    return value


def _typed(value: Any, dtype: Any) -> Any:
    """A result in PyTorch's type: JAX joins some types to others."""
    if isinstance(value, list | tuple) and isinstance(dtype, list | tuple):
        return [_typed(*pair) for pair in zip(value, dtype, strict=False)]
    if dtype is None or not isinstance(value, jax.Array) or value.dtype == dtype:
        return value
    return value.astype(dtype)


def _dtypes(meta: Any) -> Any:
    if isinstance(meta, list | tuple):
        return [_dtypes(one) for one in meta]
    return jax_dtype(meta.dtype) if isinstance(meta, torch.Tensor) else None


def jax_dtype(dtype: torch.dtype) -> Any:
    """A type of PyTorch's in JAX, where 64 bits are 32 unless they are enabled."""
    return jax.dtypes.canonicalize_dtype(jnp.dtype(str(dtype).removeprefix("torch.")))


def _step(node: torch.fx.Node, numbers: Iterator[int]) -> _Step:
    dtypes = _dtypes(node.meta.get("val"))
    target, name = node.target, str(node.target)
    if name == STOP:
        return _Step(node, lambda x: lax.stop_gradient(x), node.args, {}, None, dtypes)
    if isinstance(target, torch._ops.OpOverload):
        handler = OPERATORS.get(name)
        if handler is None:
            _refuse(
                node,
                "it is not translated to JAX",
                "Write it with other operators, or write the model in Equinox or Flax NNX, or as two functions.",
            )
        kwargs, draws = _bound(node, target, handler)
        return _Step(node, handler, (), kwargs, next(numbers) if draws else None, dtypes)
    if name == "wrap_with_set_grad_enabled":
        return _Step(node, _inner, node.args[1:], {}, None, dtypes)
    if name == "wrap_with_autocast" and node.args[2] is False:
        return _Step(node, _inner, node.args[4:], {}, None, dtypes)
    if isinstance(target, torch._ops.HigherOrderOperator):
        _refuse(node, "control flow within a module is not translated", "Choose with torch.where.")
    # Arithmetic of sizes, and the results of an operator that has several.
    return _Step(node, target, node.args, dict(node.kwargs), None, None)  # pyright: ignore[reportArgumentType]


def _inner(block: _Block, *operands: Any, key: jax.Array | None) -> Any:
    return block(operands, key)


def _bound(
    node: torch.fx.Node, target: torch._ops.OpOverload, handler: Handler
) -> tuple[dict[str, Any], bool]:
    """The arguments that a handler names, and whether it draws random numbers."""
    wanted = inspect.signature(handler).parameters
    given = dict(node.kwargs)
    positional = [argument.name for argument in target._schema.arguments if not argument.kwarg_only]
    given |= dict(zip(positional, node.args, strict=False))
    bound: dict[str, Any] = {}
    for argument in target._schema.arguments:
        name = _RENAMED.get(argument.name, argument.name)
        value = given.get(argument.name, argument.default_value)
        if name in wanted:
            bound[name] = jax_dtype(value) if isinstance(value, torch.dtype) else value
        elif argument.name in given and name not in _IMMATERIAL and value != argument.default_value:
            _refuse(
                node, f"its argument {argument.name}={value} is not translated", "Leave it at its default."
            )
    return bound, "draw" in wanted


def _refuse(node: torch.fx.Node, reason: str, do: str) -> Never:
    if node.target is operator.getitem and isinstance(node.args[0], torch.fx.Node):
        node = node.args[0]
    raise ModelError(
        f"PyTorch operator {node.target}",
        given=f"{place_of(node)}; {reason}",
        expected="operators that fairyring translates to JAX",
        do=do,
    )
