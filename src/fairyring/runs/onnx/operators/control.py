"""Loops, branches and composites."""

import numpy as np

from fairyring.runs.onnx.operators.values import Graph, Handler, Operation, Tensor


def _while(graph: Graph, operation: Operation, *operands: Tensor) -> list[Tensor]:
    """A loop of ONNX: its condition is computed before it, and at the end of each turn."""
    condition, body = operation.blocks
    returned = list(list(body.operations)[-1].operands)
    # What the body gives back as it was, such as the inputs of a scan, is read from without.
    carried = [i for i, one in enumerate(returned) if one != body.arguments[i]]

    def state(values: list[Tensor]) -> list[Tensor]:
        full = list(operands)
        for index, value in zip(carried, values, strict=True):
            full[index] = value
        return full

    (begins,) = operation.evaluate(graph, condition, operands)
    loop = graph.child()
    turn = Tensor(loop.name("turn"), (), (), np.dtype(np.int64))
    goes_on = Tensor(loop.name("goes_on"), (), (), np.dtype(np.bool_))
    own = [
        operands[index]._replace(name=loop.name("carried"), held=operands[index].shape, value=None)
        for index in carried
    ]
    loop.inputs = [turn, goes_on, *own]
    after = operation.evaluate(loop, body, state(own))
    (again,) = operation.evaluate(loop, condition, after)
    loop.finish([again, *(after[index] for index in carried)])
    given = [graph.whole(operands[index]) for index in carried]
    results = [operation.results[index] for index in carried]
    return state(graph.add_many("Loop", None, graph.whole(begins), *given, results=results, body=loop))


def _case(graph: Graph, operation: Operation, index: Tensor) -> list[Tensor]:
    """Branches by number, each an `If` with the later ones in its else; one of another number is the last."""
    return _chosen(graph, operation, index, 0)


def _chosen(graph: Graph, operation: Operation, index: Tensor, number: int) -> list[Tensor]:
    last = len(operation.blocks) - 1
    known = None if index.value is None else int(index.value)
    if known is not None:
        return operation.evaluate(graph, operation.blocks[known if 0 <= known <= last else last], [])
    if number == last:
        return operation.evaluate(graph, operation.blocks[last], [])
    own = graph.each("Equal", index, graph.constant(np.array(number, index.dtype)), dtype=np.bool_)
    this, others = graph.child(), graph.child()
    this.finish(operation.evaluate(this, operation.blocks[number], []))
    others.finish(_chosen(others, operation, index, number + 1))
    return graph.add_many(
        "If", graph.whole(own), results=operation.results, then_branch=this, else_branch=others
    )


def _composite(graph: Graph, operation: Operation, *operands: Tensor) -> list[Tensor]:
    """What it stands for, a function of the module."""
    return operation.evaluate(graph, operation.functions[operation.text("decomposition")], operands)


OPERATORS: dict[str, Handler] = {
    "stablehlo.while": _while,
    "stablehlo.case": _case,
    "stablehlo.composite": _composite,
}
