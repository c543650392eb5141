"""A model's forward pass as a program of its own: with it, and with parameters, a run predicts without its plan.

The program takes the inputs as the population has them: the task's `prepare` is in it. It is for any number of rows, unless the model
was written for one number only.
"""

from collections.abc import Callable
from typing import Any

import jax
import msgspec
import numpy as np
from jax import export
from jax.extend import mlir
from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir

from fairyring.core.program import kept
from fairyring.core.reading import NotJson
from fairyring.learning.code import Columns
from fairyring.learning.plan import Plan

Tree = Any

FORM = 1
ROWS = 128  # of a batch, where a program is for one number of rows only
PLATFORMS = ("cpu", "cuda", "tpu")


class StoredModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A forward pass as a run folder keeps it, without parameters.

    Attributes:
        form: of this file.
        column: that the model reads.
        shape: of a row of it.
        dtype: of its values, as the program takes them.
        parameters: the names on the way to each parameter, such as `["dense", "kernel"]`, in the order of the flat vector.
        torch: whether the model was a PyTorch module, whose names these are.
        rows: the number of rows that the program is for; None for any.
        program: as `jax.export` stores it: `(list of parameters, x [rows, ...]) -> outputs`. None where it could not be exported.
        why_not: the reason, if so.
    """

    form: int
    column: str
    shape: tuple[int, ...]
    dtype: str
    parameters: list[list[str]]
    torch: bool = False
    rows: int | None = None
    program: bytes | None = None
    why_not: str | None = None

    def encode(self) -> bytes:
        """As bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, content: bytes) -> "StoredModel":
        """The inverse of `encode`.

        Raises:
            NotJson: it is something else.
        """
        try:
            stored = msgspec.msgpack.decode(content, type=cls)
        except msgspec.MsgspecError as error:
            raise NotJson(f"{error}") from error
        if stored.form != FORM:
            raise NotJson(f"form {stored.form}, not {FORM}")
        return stored

    def nested(self, leaves: list[Any]) -> dict[str, Any]:
        """Parameters as nested dicts by their names. A PyTorch module's are flat: their names have dots."""
        tree: dict[str, Any] = {}
        for path, leaf in zip(self.parameters, leaves, strict=True):
            inner = tree
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = leaf
        return tree

    def function(self) -> Callable[[list[Any], Any], Tree]:
        """The program, as a function of JAX arrays.

        Raises:
            ValueError: this version of JAX does not read it.
        """
        assert self.program is not None
        return export.deserialize(bytearray(self.program)).call


def stored_model(plan: Plan, columns: Columns) -> StoredModel:
    """The forward pass of a plan's model, for the columns that its task reads: name -> (shape of a row, dtype)."""
    key = tuple((name, tuple(shape), str(dtype)) for name, (shape, dtype) in columns.items())
    return kept(plan.task, (stored_model, key), lambda: _stored(plan, columns))


def forward_of(plan: Plan) -> Callable[[list[Any], Any], Tree]:
    """The forward pass of a plan's model: `(parameters in the order of the flat vector, x) -> outputs`."""
    task, structure = plan.task, plan.layout.treedef

    def forward(leaves: list[Any], x: Any) -> Tree:
        return task.forward(structure.unflatten(leaves), {task.inputs: x}, None)

    return forward


def static_program(function: Callable[..., Tree], *arguments: Any) -> str:
    """A function as StableHLO text for a CPU, also one that is an exported program for any number of rows.

    Args:
        function: of arrays, and what it closes over are constants.
        arguments: arrays, or their shapes and dtypes.
    """
    exported = export.export(jax.jit(function, keep_unused=True), platforms=["cpu"])(*arguments)
    refined = mlir.refine_polymorphic_shapes(
        exported.mlir_module().encode(), enable_shape_assertions=True, validate_static_shapes=True
    )
    with make_ir_context():
        return str(ir.Module.parse(refined))


def _stored(plan: Plan, columns: Columns) -> StoredModel:
    shape, dtype = columns[plan.task.inputs]
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(dtype))
    stored = StoredModel(
        form=FORM,
        column=plan.task.inputs,
        shape=tuple(shape),
        dtype=dtype.name,
        parameters=names_of(plan.params_shape),
        torch=plan.task.model.native is not None,
    )
    parameters = [jax.ShapeDtypeStruct(slot.shape, slot.dtype) for slot in plan.layout.slots]
    jitted = jax.jit(forward_of(plan), keep_unused=True)
    reason = ""
    for rows in (None, ROWS):
        try:
            (count,) = export.symbolic_shape("rows") if rows is None else (rows,)
            x = jax.ShapeDtypeStruct((count, *shape), dtype)
            exported = export.export(jitted, platforms=PLATFORMS)(parameters, x)
            return msgspec.structs.replace(stored, rows=rows, program=bytes(exported.serialize()))
        except (
            Exception
        ) as error:  # the model is the user's code, and may fail in any way for a shape that is a symbol
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
    return msgspec.structs.replace(stored, why_not=reason)


def names_of(params: Tree) -> list[list[str]]:
    """The names on the way to each leaf."""
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    return [[_name(entry) for entry in path] or ["parameters"] for path, _ in paths]


def _name(entry: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)
