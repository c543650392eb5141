"""A model's forward pass as a program of its own: with it, and with parameters, a run predicts without its plan.

The program takes the inputs as the population has them: the task's `prepare` is in it. It is for any number of rows, unless the model
was written for one number only.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import msgspec
import numpy as np
from jax import export

from fairyring.core.program import kept
from fairyring.core.reading import NotJson
from fairyring.core.tree_names import names_of
from fairyring.learning.code import Columns
from fairyring.learning.plan import Plan

Tree = Any

FORM = 1
LARGEST = 256 << 20  # bytes of a program that every run folder keeps
ROWS = 128  # of a batch, where a program is for one number of rows only
PLATFORMS = ("cpu", "cuda", "tpu")


class Constant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor of a PyTorch module that is not trained: its type's name, its shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes


class StoredModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A forward pass as a run folder keeps it, without parameters.

    Attributes:
        form: of this file.
        column: that the model reads.
        shape: of a row of it.
        dtype: of its values, as the program takes them.
        parameters: the names on the way to each parameter, such as `["dense", "kernel"]`, in the order of the flat vector.
        torch: whether the model was a PyTorch module, whose names these are.
        constants: of a PyTorch module, what its state dict has beside: buffers, and parameters that are not trained.
        shared: of a PyTorch module, other names of a parameter -> its name here.
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
    constants: dict[str, Constant] | None = None
    shared: dict[str, str] | None = None
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
    if stored.torch:
        stored = _with_constants(stored, plan)
    parameters = [jax.ShapeDtypeStruct(slot.shape, slot.dtype) for slot in plan.layout.slots]
    jitted = jax.jit(forward_of(plan), keep_unused=True)
    reason = ""
    for rows in (None, ROWS):
        try:
            (count,) = export.symbolic_shape("rows") if rows is None else (rows,)
            x = jax.ShapeDtypeStruct((count, *shape), dtype)
            exported = export.export(jitted, platforms=PLATFORMS)(parameters, x)
            program = bytes(exported.serialize())
            if len(program) > LARGEST:
                size = f"{len(program) >> 20:,} MiB, more than {LARGEST >> 20}: the numbers that the model closes over are in it"
                return msgspec.structs.replace(stored, why_not=size)
            return msgspec.structs.replace(stored, rows=rows, program=program)
        except (
            Exception
        ) as error:  # the model is the user's code, and may fail in any way for a shape that is a symbol
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
    return msgspec.structs.replace(stored, why_not=reason)


def _with_constants(stored: StoredModel, plan: Plan) -> StoredModel:
    """With what a PyTorch module's state dict has beside the parameters that are trained."""
    assert plan.task.model.native is not None
    if any(
        len(path) > 1 for path in stored.parameters
    ):  # changes of low rank: the plan knows how to apply them
        return msgspec.structs.replace(stored, torch=False)
    trained = [path[0] for path in stored.parameters]
    zeros = {n: np.zeros(slot.shape, np.float32) for n, slot in zip(trained, plan.layout.slots, strict=True)}
    state = plan.task.model.native(zeros)
    first = {id(state[name]): name for name in trained}
    constants, shared = {}, {}
    for name, tensor in state.items():
        if id(tensor) in first:
            shared |= {name: first[id(tensor)]} if name not in trained else {}
        else:
            dtype = str(tensor.dtype).removeprefix("torch.")
            content = tensor.contiguous().reshape(-1).view(_bytes_of(tensor)).numpy().tobytes()
            constants[name] = Constant(dtype, tuple(tensor.shape), content)
    return msgspec.structs.replace(stored, constants=constants, shared=shared)


def _bytes_of(tensor: Any) -> Any:
    """PyTorch's type of bytes; it is imported, since there is a tensor."""
    return sys.modules[type(tensor).__module__.partition(".")[0]].uint8
