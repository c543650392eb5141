"""Digests of the code in a plan: model, loss, metrics, and custom parts.

A program is lowered to StableHLO for a CPU, whatever it will run on, and hashed as text. The text leaves out source locations and the
names of the functions that the program calls. Numbers that the code closes over, such as pretrained weights, are part of the digest.
Python code that a program calls back, as with `jax.pure_callback`, is not.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import eval_jaxpr

from fairyring.aggregation.contract import BoundStage, Message
from fairyring.core.keys import key_shape
from fairyring.core.program import kept
from fairyring.learning.algorithm import Algorithm, Combined, Facts
from fairyring.learning.rehearsal import RehearsalClient
from fairyring.task import Task

if TYPE_CHECKING:
    from fairyring.learning.plan import Plan

Tree = Any
# For each column that a task reads: the shape of a row, and the dtype.
Columns = Mapping[str, tuple[tuple[int, ...], Any]]

_LARGE = 1 << 20  # bytes; a larger array that code closes over is hashed as bytes, not as text
_RESULTS = re.compile(r' \{jax\.result_info = "[^"]*"\}')
_MODULE = re.compile(r"^module @\S+ attributes \{.*\} \{$", re.MULTILINE)
_CALLED = re.compile(r'func\.func private @("[^"]*"|[\w.$-]+)')
_SYMBOL = re.compile(r'@("[^"]*"|[\w.$-]+)')


def digest_of(function: Callable[..., Tree], *arguments: Tree) -> str:
    """SHA-256 of a function's program, 64 hexadecimal digits. `arguments` are arrays, or their shapes and dtypes."""
    return _digested(function, *arguments)[0]


def _digested(function: Callable[..., Tree], *arguments: Tree) -> tuple[str, Tree]:
    """The digest of `digest_of`, and what the function returns, as shapes and dtypes."""
    traced = jax.jit(lambda *values: function(*values), keep_unused=True).trace(*arguments)
    closed = traced.jaxpr
    large = [place for place, value in enumerate(closed.consts) if _is_large(value)]
    program = traced
    if large:  # writing them as text would be slow, so they become arguments, and their bytes are hashed

        def with_large(values: list[jax.Array], *leaves: jax.Array) -> list[jax.Array]:
            large_values = dict(zip(large, values, strict=True))
            consts = [large_values.get(place, value) for place, value in enumerate(closed.consts)]
            return eval_jaxpr(closed.jaxpr, consts, *leaves)

        shapes = [
            jax.ShapeDtypeStruct(closed.consts[place].shape, closed.consts[place].dtype) for place in large
        ]
        program = jax.jit(with_large, keep_unused=True).trace(shapes, *jax.tree.leaves(arguments))
    text = plain_text(program.lower(lowering_platforms=("cpu",)).as_text())
    state = hashlib.sha256(text.encode())
    for place in large:
        state.update(np.ascontiguousarray(closed.consts[place]).reshape(-1).view(np.uint8).data)
    return state.hexdigest(), traced.out_info


def _is_large(value: Any) -> bool:
    return isinstance(getattr(value, "dtype", None), np.dtype) and value.size * value.dtype.itemsize > _LARGE


def plain_text(text: str) -> str:
    """StableHLO text with the functions numbered in order, and without the names of results and of the module."""
    text = _MODULE.sub("module {", _RESULTS.sub("", text), count=1)
    numbers = {name: f"@f{number}" for number, name in enumerate(_CALLED.findall(text))}
    return _SYMBOL.sub(lambda symbol: numbers.get(symbol[1], symbol[0]), text)


def of_init(task: Task) -> str:
    """The digest of the program that initialises a task's model."""
    return kept(task, of_init, lambda: digest_of(task.model.init, key_shape()))


def of_examples(plan: "Plan", columns: Columns) -> dict[str, str]:
    """The digests of the code that reads examples, by part: the model in training and in evaluation, the loss, its penalty, each
    metric, and an algorithm whose halves read columns.
    """
    params = plan.params_shape
    batch = {
        name: jax.ShapeDtypeStruct((plan.local.batch_size, *shape), jax.dtypes.canonicalize_dtype(dtype))
        for name, (shape, dtype) in columns.items()
    }
    shapes = tuple((name, one.shape, one.dtype) for name, one in batch.items())
    # Plans of one task, such as those of a sweep, differ in other parts.
    digests = kept(plan.task, (of_examples, shapes), lambda: _of_task(plan.task, params, batch))
    if plan.algorithm.update is None:
        return digests

    def of_algorithm() -> str:
        states = (
            jax.eval_shape(state, params)
            for state in (plan.algorithm.server_state, plan.algorithm.client_state)
        )
        return digest_of(partial(_halves, plan.algorithm), params, (params, params), *states, batch)

    return {**digests, "algorithm": kept(plan, (of_examples, shapes), of_algorithm)}


def _of_task(task: Task, params: Tree, batch: Mapping[str, Any]) -> dict[str, str]:
    model, (outputs, _) = _digested(
        lambda params, batch, key: (task.forward(params, batch, key), task.forward(params, batch, None)),
        params,
        batch,
        key_shape(),
    )
    outputs = jax.tree.map(lambda out: jax.ShapeDtypeStruct(out.shape, out.dtype), outputs)
    metrics = {
        f"metric {name}": digest_of(metric.measure, outputs, batch) for name, metric in task.metrics.items()
    }
    pooled = {
        f"pooled {name}": digest_of(metric.statistic, outputs, batch) for name, metric in task.pooled.items()
    }
    digests = {"apply": model, "loss": digest_of(task.loss, outputs, batch), **metrics, **pooled}
    if task.penalty is not None:
        digests["penalty"] = digest_of(task.penalty, params)
    return digests


def of_stages(stages: BoundStage, size: int, auxiliaries: int) -> str:
    """The digest of bound stages, for messages with a vector of `size` numbers and so many auxiliary values."""
    key = key_shape()
    message = Message(_floats(size), _floats(auxiliaries))
    total = jax.eval_shape(stages.encode, message, key, key)

    def both(message: Message, total: Message, client_key: jax.Array, round_key: jax.Array) -> Tree:
        return stages.encode(message, client_key, round_key), stages.decode(total, round_key)

    return digest_of(both, message, total, key, key)


def of_optimizer(plan: "Plan", optimizer_of: Callable[[jax.Array], Any]) -> str:
    """The digest of an optimiser of the plan's parameters, given as a function of the round."""
    params = plan.params_shape

    def step(params: Tree, gradient: Tree, state: Tree, round: jax.Array) -> Tree:
        optimizer = optimizer_of(round)
        return optimizer.init(params), optimizer.update(gradient, state, params)

    round = jax.ShapeDtypeStruct((), jnp.int32)
    state = jax.eval_shape(lambda params, round: optimizer_of(round).init(params), params, round)
    return digest_of(step, params, params, state, round)


def of_algorithm(plan: "Plan") -> str:
    """The digest of the plan's algorithm alone. If its halves read columns, they are not in it: see `of_examples`."""
    algorithm, params = plan.algorithm, plan.params_shape
    server_state, client_state = (
        jax.eval_shape(state, params) for state in (algorithm.server_state, algorithm.client_state)
    )
    layout = plan.update_layout
    update = layout.treedef.unflatten([jax.ShapeDtypeStruct(slot.shape, slot.dtype) for slot in layout.slots])

    def every_function(
        received: Tree,
        known: tuple[Tree, Tree],
        server_state: Tree,
        client_state: Tree,
        update: Tree,
        auxiliary: tuple[Any, ...],
        fraction: Any,
    ) -> Tree:
        combined = Combined(update, auxiliary)
        halves = ()
        if algorithm.update is None:  # otherwise the halves read examples: see `of_examples`
            halves = _halves(algorithm, received, known, server_state, client_state)
        return (
            algorithm.server_state(received),
            algorithm.client_state(received),
            *halves,
            algorithm.server(combined, server_state, Facts(fraction)),
        )

    auxiliary = (_floats(),) * len(algorithm.auxiliary)
    program = digest_of(
        every_function, params, (params, params), server_state, client_state, update, auxiliary, _floats()
    )
    if not auxiliary:
        return program
    # No program holds the bounds, which stages clip and round by.
    bounds = [float(one.bound) for one in algorithm.auxiliary]
    return hashlib.sha256(f"{program} {bounds}".encode()).hexdigest()


def _halves(
    algorithm: Algorithm,
    received: Tree,
    known: tuple[Tree, Tree],
    server_state: Tree,
    client_state: Tree,
    columns: Mapping[str, jax.Array] | None = None,
) -> tuple[Tree, Tree]:
    """An algorithm's device half and the personal model, of two steps: at the first one the parameters are those received."""
    client = RehearsalClient(optax.sgd(1.0), known, columns)
    given = client, received, server_state, client_state
    return algorithm.device(*given), algorithm.personal(*given)


def _floats(*shape: int) -> Any:  # typed as Any, because a shape stands for an array
    return jax.ShapeDtypeStruct(shape, jnp.float32)
