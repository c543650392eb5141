"""Loops, branches and composites."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairyring.runs.onnx.operators.values import Graph, Handler, Operation, Tensor
from fairyring.runs.onnx.stablehlo import number_of, producer, type_of, word


def _while(graph: Graph, operation: Operation, *operands: Tensor) -> list[Tensor]:
    """A loop of ONNX: its condition is computed before it, and at the end of each turn."""
    condition, body = operation.blocks
    returned = list(list(body.operations)[-1].operands)
    # What the body gives back as it was, such as the inputs of a scan, is read from without.
    changed = [i for i, one in enumerate(returned) if one != body.arguments[i]]
    turns = _turns(operation, returned)
    stacked = [i for i in changed if turns and _is_stacked(body.arguments[i], returned[i], *turns)]
    carried = [i for i in changed if i not in stacked]

    def state(values: Sequence[Tensor], places: Sequence[int]) -> list[Tensor]:
        full = list(operands)
        for place, value in zip(places, values, strict=True):
            full[place] = value
        return full

    (begins,) = operation.evaluate(graph, condition, operands)
    loop = graph.child()
    turn = Tensor(loop.name("turn"), (), (), np.dtype(np.int64))
    goes_on = Tensor(loop.name("goes_on"), (), (), np.dtype(np.bool_))
    own = [
        operands[i]._replace(name=loop.name("carried"), held=operands[i].shape, value=None) for i in carried
    ]
    loop.inputs = [turn, goes_on, *own]
    after = operation.evaluate(loop, body, state(own, carried))
    (again,) = operation.evaluate(loop, condition, after)
    rows = [operation.values[producer(returned[i]).operands[1]] for i in stacked]
    rows = [loop.reshape(row, row.shape[1:]) for row in rows]
    loop.finish([again, *(after[i] for i in carried), *rows])
    places = [*carried, *stacked]
    given = [graph.whole(operands[i]) for i in carried]
    results = [operation.results[i] for i in places]
    return state(
        graph.add_many("Loop", None, graph.whole(begins), *given, results=results, body=loop), places
    )


def _turns(operation: Operation, returned: Sequence[Any]) -> tuple[int, int] | None:
    """Which value counts the turns from zero, and how many there are; None if that is not known.

    Nothing else decides when the loop ends.
    """
    condition, body = operation.blocks
    compared = producer(list(condition.operations)[-1].operands[0])
    if compared is None or compared.name != "stablehlo.compare":
        return None
    counter, last = compared.operands
    if word(compared.attributes["comparison_direction"]) != "LT" or producer(counter) is not None:
        return None
    index = counter.arg_number
    count, step = number_of(last), producer(returned[index])
    counts = (
        counter == condition.arguments[index]
        and step is not None
        and step.name == "stablehlo.add"
        and step.operands[0] == body.arguments[index]
        and number_of(step.operands[1]) == 1
        and number_of(operation.raw.operands[index]) == 0
    )
    return (index, count) if counts and count else None


def _is_stacked(argument: Any, returned: Any, counter: int, count: int) -> bool:
    """Whether all that happens to a value is that each turn writes its row, as the outputs of a scan are."""
    made = producer(returned)
    if made is None or made.name != "stablehlo.dynamic_update_slice" or made.operands[0] != argument:
        return False
    shape, _ = type_of(argument)
    row, _ = type_of(made.operands[1])
    start = made.operands[2]
    return (
        shape[0] == count
        and row == (1, *shape[1:])
        and start == argument.owner.arguments[counter]
        and len(list(argument.uses)) == len(list(returned.uses)) == 1
    )


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
