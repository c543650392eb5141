"""An ONNX graph while it is written, and its bytes."""

from collections.abc import Sequence
from itertools import count
from math import prod
from typing import Any, NamedTuple

import numpy as np

# What a model asks of its runtime: operators of ONNX 1.16 (2024), so that runtimes of the years since can read it.
OPSET, IR_VERSION = 21, 10

# Numbers of the types, by the name of the dtype.
TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "bfloat16": 16,
}
SMALL = 256  # values: constants of no more are written once, however often they are used


class Tensor(NamedTuple):
    """A value of the program.

    A value that is broadcast is not written out: most operators of ONNX broadcast by themselves.

    Attributes:
        name: in the graph.
        shape: in the program.
        held: the shape that it has in the graph. NumPy's rules broadcast it to `shape`.
        dtype: of its values.
        value: its values, `held`, where they are known.
    """

    name: str
    shape: tuple[int, ...]
    held: tuple[int, ...]
    dtype: np.dtype
    value: np.ndarray | None = None


class Node(NamedTuple):
    """An operator of ONNX with the names of what goes in and comes out."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


class Graph:
    """A graph while it is written.

    Args:
        names: that are taken.
        parent: the graph that this one is a branch or the body of a loop in. It sees what the parent holds.

    Attributes:
        nodes: in the order of computation.
        constants: name -> array, of the whole model.
    """

    def __init__(self, names: Sequence[str] = (), parent: "Graph | None" = None) -> None:
        self.nodes: list[Node] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self._parent = parent
        self._whole: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self.constants: dict[str, np.ndarray] = {} if parent is None else parent.constants
        self._known: dict[Any, str] = {} if parent is None else parent._known
        self._taken = set(names) if parent is None else parent._taken
        self._numbers = count() if parent is None else parent._numbers

    def name(self, stem: str) -> str:
        """A name that is free."""
        while (name := f"{stem}_{next(self._numbers)}") in self._taken:
            pass
        return name

    def constant(self, value: Any, shape: tuple[int, ...] | None = None, name: str | None = None) -> Tensor:
        """An array that is known.

        Args:
            value: the array.
            shape: to which it is broadcast; None for its own.
            name: of a parameter; None for any name.
        """
        array = np.asarray(value)
        shape = array.shape if shape is None else shape
        key = (array.dtype, array.shape, array.tobytes()) if name is None and array.size <= SMALL else None
        if key is not None and key in self._known:
            name = self._known[key]
        else:
            name = name or self.name("constant")
            self.constants[name] = array
            if key is not None:
                self._known[key] = name
        return Tensor(name, tuple(shape), array.shape, array.dtype, array)

    def add(
        self, op: str, *inputs: Tensor | None, shape: Sequence[int], dtype: Any, **attributes: Any
    ) -> Tensor:
        """Write an operator with one result. An input that it does without is None."""
        return self.add_many(op, *inputs, results=[(tuple(shape), np.dtype(dtype))], **attributes)[0]

    def add_many(
        self,
        op: str,
        *inputs: Tensor | None,
        results: Sequence[tuple[tuple[int, ...], np.dtype]],
        **attributes: Any,
    ) -> list[Tensor]:
        """Write an operator with results of these shapes and dtypes."""
        made = [Tensor(self.name(op), shape, shape, dtype) for shape, dtype in results]
        names = ["" if one is None else one.name for one in inputs]
        self.nodes.append(Node(op, names, [one.name for one in made], attributes))
        return made

    def each(self, op: str, *inputs: Tensor, dtype: Any, **attributes: Any) -> Tensor:
        """Write an operator that works element by element, and broadcasts."""
        held = np.broadcast_shapes(*(one.held for one in inputs))
        shape = np.broadcast_shapes(*(one.shape for one in inputs))
        return self.add(op, *inputs, shape=held, dtype=dtype, **attributes)._replace(shape=shape)

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        """`x` in another type."""
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        if x.value is not None and x.value.size <= SMALL:
            with np.errstate(invalid="ignore"):
                return self.constant(x.value.astype(dtype), x.shape)
        return self.each("Cast", x, dtype=dtype, to=TYPES[dtype.name])

    def whole(self, x: Tensor) -> Tensor:
        """`x` with its broadcasting written out."""
        if x.held == x.shape:
            return x
        scope: Graph | None = self
        while scope is not None:
            if (x.name, x.shape) in scope._whole:
                return scope._whole[x.name, x.shape]
            scope = scope._parent
        if x.value is not None and prod(x.shape) <= SMALL:
            made = self.constant(np.broadcast_to(x.value, x.shape))
        elif prod(x.held) == prod(x.shape):
            made = self.reshape(x._replace(shape=x.held), x.shape)
        else:
            made = self.add("Expand", x, self.integers(x.shape), shape=x.shape, dtype=x.dtype)
        self._whole[x.name, x.shape] = made
        return made

    def integers(self, values: Sequence[int]) -> Tensor:
        """Numbers that an operator takes as an input, such as a shape."""
        return self.constant(np.array(values, np.int64))

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """`x` in another shape of the same size."""
        shape = tuple(shape)
        if x.shape == shape:
            return x
        if prod(x.held) == 1 < prod(shape):
            return (x if x.held == () else self.held_as(x, ()))._replace(shape=shape)
        return self._reshaped(self.whole(x), shape)

    def held_as(self, x: Tensor, held: tuple[int, ...]) -> Tensor:
        """`x` with the shape that it has in the graph changed to another of the same size."""
        return self._reshaped(x._replace(shape=x.held), held)._replace(shape=x.shape)

    def _reshaped(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        if x.value is not None and x.value.size <= SMALL:
            return self.constant(x.value.reshape(shape))
        more = {"allowzero": 1} if 0 in shape else {}  # zero means "as in the input" otherwise
        return self.add("Reshape", x, self.integers(shape), shape=shape, dtype=x.dtype, **more)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """`x` with its axes in this order."""
        order = list(order)
        if order == list(range(len(order))):
            return x
        shape = tuple(x.shape[axis] for axis in order)
        if x.held == ():
            return x._replace(shape=shape)
        if len(x.held) < len(order):
            x = self.held_as(x, (1,) * (len(order) - len(x.held)) + x.held)
        held = tuple(x.held[axis] for axis in order)
        if x.value is not None and x.value.size <= SMALL:
            return self.constant(x.value.transpose(order), shape)
        made = self.add("Transpose", x, shape=held, dtype=x.dtype, perm=order)
        return made._replace(shape=shape)

    def slice(
        self, x: Tensor, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int] | None = None
    ) -> Tensor:
        """A part of `x`, with numbers for every axis; steps are positive."""
        steps = [1] * len(x.shape) if steps is None else steps
        ranges = [range(*three) for three in zip(starts, stops, steps, strict=True)]
        shape = tuple(map(len, ranges))
        axes = [axis for axis, one in enumerate(ranges) if one != range(x.shape[axis])]
        if not axes:
            return x
        x = self.whole(x)
        if x.value is not None and x.value.size <= SMALL:
            return self.constant(x.value[tuple(map(slice, starts, stops, steps))])
        inputs = ([one[axis] for axis in axes] for one in (starts, stops, axes_of(x), steps))
        return self.add("Slice", x, *map(self.integers, inputs), shape=shape, dtype=x.dtype)

    def reverse(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """`x` with these axes turned round."""
        if not axes:
            return x
        back = ([-1] * len(axes), [np.iinfo(np.int64).min] * len(axes), axes, [-1] * len(axes))
        return self.add("Slice", self.whole(x), *map(self.integers, back), shape=x.shape, dtype=x.dtype)

    def pad(
        self,
        x: Tensor,
        low: Sequence[int],
        high: Sequence[int],
        interior: Sequence[int] | None = None,
        value: Tensor | None = None,
    ) -> Tensor:
        """`x` with more values, or fewer, at the ends of its axes, and more between its own.

        Args:
            x: an array.
            low, high: how many at the ends of each axis; negative to cut.
            interior: how many between two, for each axis.
            value: the scalar that they have; None for zero.
        """
        for axis, between in enumerate(interior or ()):
            if between and x.shape[axis] > 1:
                x = self._between(x, axis, between, value)
        more = [max(one, 0) for one in (*low, *high)]
        if any(more):
            rank = len(x.shape)
            shape = tuple(size + more[axis] + more[rank + axis] for axis, size in enumerate(x.shape))
            value = value or self.constant(np.zeros((), x.dtype))
            x = self.add(
                "Pad", self.whole(x), self.integers(more), self.whole(value), shape=shape, dtype=x.dtype
            )
        stops = [size - max(-one, 0) for size, one in zip(x.shape, high, strict=True)]
        return self.slice(x, [max(-one, 0) for one in low], stops)

    def _between(self, x: Tensor, axis: int, between: int, value: Tensor | None) -> Tensor:
        """Each value gets a row of its own, which is made longer; all rows are one axis again."""
        before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        rows = self.reshape(self.whole(x), (*before, size, 1, *after))
        ends = [between if one == axis + 1 else 0 for one in range(len(rows.shape))]
        long = self.reshape(
            self.pad(rows, [0] * len(ends), ends, None, value), (*before, size * (between + 1), *after)
        )
        stops = [*long.shape]
        stops[axis] -= between
        return self.slice(long, [0] * len(stops), stops)

    def child(self) -> "Graph":
        """A graph within this one, for a branch or the body of a loop."""
        return Graph(parent=self)

    def finish(self, outputs: Sequence[Tensor], names: Sequence[str] | None = None) -> "Graph":
        """End the graph with these outputs, each under a name that no other has."""
        outputs = [self.whole(out) for out in outputs]
        own = {name for node in self.nodes for name in node.outputs}
        for index, out in enumerate(outputs):
            if names is not None or out.name not in own:
                name = self.name("Identity") if names is None else names[index]
                self.nodes.append(Node("Identity", [out.name], [name], {}))
                out = out._replace(name=name)
            own.discard(out.name)
            self.outputs.append(out)
        self._drop_unused()
        return self

    def uses(self) -> set[str]:
        """Names that the graph reads or gives, also in graphs within it."""
        used = {out.name for out in self.outputs}
        for node in self.nodes:
            used |= _uses(node)
        return used

    def _drop_unused(self) -> None:
        used, kept = {out.name for out in self.outputs}, []
        for node in reversed(self.nodes):
            if used & set(node.outputs):
                kept.append(node)
                used |= _uses(node)
        self.nodes = kept[::-1]

    def encode(self) -> bytes:
        """As an ONNX model.

        Raises:
            ImportError: onnx is not installed.
        """
        import onnx

        used = self.uses()
        model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="fairyring")
        model.opset_import.append(onnx.OperatorSetIdProto(domain="", version=OPSET))
        model.graph.CopyFrom(_graph(self, "model"))
        for name, array in self.constants.items():
            if name in used:
                model.graph.initializer.append(_array(array, name))
        return model.SerializeToString()


def axes_of(x: Tensor) -> list[int]:
    """The axes of an array."""
    return list(range(len(x.shape)))


def _uses(node: Node) -> set[str]:
    within = [value.uses() for value in node.attributes.values() if isinstance(value, Graph)]
    return set(node.inputs).union(*within)


def _graph(graph: Graph, name: str) -> Any:
    import onnx

    made = onnx.GraphProto(name=name)
    for place, tensors in ((made.input, graph.inputs), (made.output, graph.outputs)):
        for one in tensors:
            place.append(onnx.helper.make_tensor_value_info(one.name, TYPES[one.dtype.name], one.shape))
    for node in graph.nodes:
        attributes = {
            key: _graph(value, node.outputs[0]) if isinstance(value, Graph) else value
            for key, value in node.attributes.items()
        }
        made.node.append(
            onnx.helper.make_node(node.op, node.inputs, node.outputs, name=node.outputs[0], **attributes)
        )
    return made


def _array(array: np.ndarray, name: str) -> Any:
    import onnx

    return onnx.TensorProto(
        name=name, dims=array.shape, data_type=TYPES[array.dtype.name], raw_data=array.tobytes()
    )
