"""A module's graph, from `torch.export`, in which every operator is one of the table's or has been taken apart into some."""

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from threading import Lock, get_ident
from typing import Any, Never

import torch
from torch.export import Dim, ExportedProgram

from fairyring.core.errors import ModelError
from fairyring.task.adapters._statistics import refuse_batch_normalisation, refuse_state
from fairyring.task.pytorch.in_place import out_of_place
from fairyring.task.pytorch.operators import OPERATORS
from fairyring.task.pytorch.place import first_line, line_of, place_of

_ALONE = Lock()  # torch.export keeps what it is tracing in the process, not in the thread
_EXAMPLES = 3  # rows of the example; the graph is for any number of rows
# Nodes that check something and compute nothing.
CHECKS = {
    "aten._assert_async.msg",
    "aten._assert_scalar.default",
    "aten._assert_tensor_metadata.default",
    "aten.sym_constrain_range.default",
    "aten.sym_constrain_range_for_size.default",
}
# `run_decompositions` forgets where gradients stop, so the places are marked by an operator that it does not know.
STOP = "fairyring.stop_gradient.default"


@torch.library.custom_op("fairyring::stop_gradient", mutates_args=())
def _stop_gradient(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@_stop_gradient.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def export(
    module: torch.nn.Module, shape: tuple[int, ...], dtype: torch.dtype, *, train: bool
) -> ExportedProgram:
    """The graph of a module for batches of examples of a shape.

    Args:
        module: a copy that nobody else uses.
        shape: of a batch. The graph is for any number of examples if the module takes any.
        dtype: of the batch.
        train: whether the module is in training mode.

    Raises:
        ModelError: torch.export cannot follow the module, or it has state that changes from call to call.
    """
    with _ALONE:
        return _export(module, shape, dtype, train=train)


def _export(
    module: torch.nn.Module, shape: tuple[int, ...], dtype: torch.dtype, *, train: bool
) -> ExportedProgram:
    module.train(train)
    try:
        with _quiet():
            try:
                x = torch.zeros((_EXAMPLES, *shape[1:]), dtype=dtype, device="cpu")
                program = torch.export.export(module, (x,), dynamic_shapes=({0: Dim("batch")},), strict=False)
            except Exception:  # a module may be written for one size of batch
                x = torch.zeros(shape, dtype=dtype, device="cpu")
                program = torch.export.export(module, (x,), strict=False)
            _mark_stops(program.graph_module)
            _refuse_statistics(program)
            out_of_place(program.graph_module)
            if not all(_is_known(node) for node in _nodes(program.graph_module)):
                program = program.run_decompositions(_decompositions())
    except ModelError:
        raise
    except Exception as error:  # whatever a module or torch.export raises
        _refuse(module, shape, dtype, error)
    _refuse_mutations(program)
    return program


class _OfOtherThreads(io.TextIOBase):
    """What other threads write to a stream. torch.export prints the graph of a failure to standard error."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._own = stream, get_ident()

    def write(self, text: str, /) -> int:
        return len(text) if get_ident() == self._own else self._stream.write(text)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and logs of torch.export: what is wrong is said by our errors."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # The fast path of an encoder in evaluation is one operator, without a gradient.
    torch.backends.mha.set_fastpath_enabled(False)
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(_OfOtherThreads(sys.stderr)):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast)


def _nodes(graph_module: torch.fx.GraphModule) -> Iterator[torch.fx.Node]:
    """The calls in a graph, and in the graphs within it."""
    for part in graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            yield from (node for node in part.graph.nodes if node.op == "call_function")


def _is_known(node: torch.fx.Node) -> bool:
    """Whether a node need not be taken apart."""
    name = str(node.target)
    return (
        name in OPERATORS
        or name in CHECKS
        or name == STOP
        or not isinstance(node.target, torch._ops.OpOverload)
    )


def _decompositions() -> dict[Any, Any]:
    """PyTorch's own, but for the operators of the table."""
    table: Any = torch.export.default_decompositions()
    for name in OPERATORS:
        library, operator, overload = name.split(".")
        packet = getattr(getattr(torch.ops, library), operator, None)
        if packet is not None and overload in packet.overloads():
            table.pop(getattr(packet, overload), None)
    return table


def _mark_stops(graph_module: torch.fx.GraphModule) -> None:
    stop = torch.ops.fairyring.stop_gradient.default
    for node in list(_nodes(graph_module)):
        if str(node.target) in ("aten.detach.default", "aten.detach_.default"):
            node.target = stop
        elif str(node.target) == "wrap_with_set_grad_enabled" and node.args[0] is False:
            inner = getattr(graph_module, str(node.args[1].target))  # pyright: ignore
            _stop_outputs(inner, stop)
    for part in graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            part.recompile()


def _stop_outputs(inner: torch.fx.GraphModule, stop: Any) -> None:
    end = next(node for node in inner.graph.nodes if node.op == "output")

    def stopped(value: Any) -> Any:
        if not isinstance(value, torch.fx.Node) or not isinstance(value.meta.get("val"), torch.Tensor):
            return value
        with inner.graph.inserting_before(end):
            marked = inner.graph.call_function(stop, (value,))
        marked.meta = dict(value.meta)
        return marked

    end.args = (torch.fx.map_arg(end.args[0], stopped),)


def _refuse_statistics(program: ExportedProgram) -> None:
    for node in _nodes(program.graph_module):
        if "batch_norm" in str(node.target):
            refuse_batch_normalisation(f"{node.target} in {place_of(node)}")


def _refuse_mutations(program: ExportedProgram) -> None:
    for spec in program.graph_signature.output_specs:
        if spec.kind.name == "BUFFER_MUTATION":
            refuse_state(f"buffer {spec.target!r}, which the forward pass changes")
        if spec.kind.name == "USER_INPUT_MUTATION":
            raise ModelError(
                "PyTorch module",
                given="a forward pass that changes its input in place",
                expected="an input that stays as it is",
                do="Begin with x = x.clone(), or leave out inplace=True in the first layer.",
            )


def _refuse(module: torch.nn.Module, shape: tuple[int, ...], dtype: torch.dtype, error: Exception) -> Never:
    text, line = first_line(error), line_of(error)
    do = (
        "It must accept a batch of this shape, and PyTorch must be able to export it: "
        "torch.export.export(module, (x,), strict=False) shows where it fails."
    )
    if "data-dependent" in str(error):
        do = (
            "Its control flow or a shape depends on values, which are known only when the program runs. Choose with "
            "torch.where instead of `if`, and leave out .item(), .nonzero() and masks as indices."
        )
    elif "channels" in text and len(shape) == 4:
        do = (
            "PyTorch has channels before height and width. If the data have them last, move them where they are read: "
            "prepare=lambda x: jax.numpy.moveaxis(x, -1, 1) / 255."
        )
    elif isinstance(module, torch.jit.ScriptModule):
        do = "Pass the module that was scripted."
    place = f" at {line}" if line else ""
    rest = "".join(f", {n}" for n in shape[1:])
    raise ModelError(
        f"PyTorch module {type(module).__name__}",
        given=f"{type(error).__name__}{place}: {text} (for {dtype} of shape (B{rest}))",
        expected="a module that torch.export can follow",
        do=do,
    ) from error
