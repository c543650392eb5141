"""The device half of a round: one client's examples in, one encoded message out.

It is a pure function of what the server sent, the client's rows, its state and two keys. In simulation it is
compiled into the engine's loop over clients. For real devices the same function is exported.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.aggregation.contract import BoundStage, Message
from fairyring.core.errors import PlanError
from fairyring.core.keys import Purpose
from fairyring.core.vector import Layout
from fairyring.learning._storage import Align, storage_for
from fairyring.learning.algorithm import Algorithm, Report
from fairyring.learning.batches import Columns, Examples
from fairyring.learning.client import NoisySteps, Objective, TrainingClient
from fairyring.learning.example_steps import Drawn
from fairyring.learning.local import LocalTraining, Workload
from fairyring.learning.measured import TINY, Measured
from fairyring.lowering import Storage
from fairyring.task import Task

Tree = Any
Rewrite = Callable[[Callable], Callable]


class Broadcast(NamedTuple):
    """What the server sends to the clients of a round.

    Attributes:
        params: the model.
        server_state: the algorithm's state on the server.
        round: the round's number, from 1: int32 scalar.
    """

    params: Tree
    server_state: Tree
    round: Any


class Outcome(NamedTuple):
    """The result of one client's round.

    Attributes:
        message: the encoded message. It can always be added to the other clients' messages. If the update was not finite, then
            under a noise stage, whose promise covers the divisor too, it is the message of a zero vector with the client's own
            weight; otherwise it is all zeros, including the weight, which leaves the client out of the mean.
        client_state: the client's new state; the old one if the update was not finite.
        finite: whether the update, the weight, the loss and what the algorithm sends beside them were finite: bool scalar. Metrics need
            not be.
        relative_norm: of the update, where the first clip takes it: see `BoundStage`. Empty where it is not measured.
    """

    message: Message
    client_state: Tree
    finite: jax.Array
    relative_norm: jax.Array | tuple[()] = ()


def objective_of(task: Task) -> Objective:
    """A task's local loss as `(params, batch, mask, key) -> (mean loss, totals)`; see `fairyring.learning.client.Objective`."""

    has_own_weights = [most is not None for most in Measured.of(task).weight_bounds]

    def objective(params: Tree, batch: Columns, mask: jax.Array | None, key: jax.Array):
        outputs = task.forward(params, batch, key)
        pairs = [task.loss(outputs, batch)]
        pairs += [metric.measure(outputs, batch) for metric in task.metrics.values()]
        rows = batch[task.inputs].shape[0]
        totals = []
        for (value, weight), own in zip(pairs, has_own_weights, strict=True):
            weight = jnp.broadcast_to(weight, (rows,)).astype(jnp.float32)
            weight = weight if mask is None else weight * mask
            weighted = jnp.where(weight > 0, value * weight, 0.0) if own else value * weight
            totals += [jnp.sum(weighted), jnp.sum(weight)]
        loss = totals[0] / jnp.maximum(totals[1], TINY)
        loss = loss if task.penalty is None else loss + task.penalty(params)
        examples = batch["weight"] if "weight" in batch else jnp.ones((rows,), jnp.float32)
        totals.append(jnp.sum(examples if mask is None else examples * mask))
        return loss, jnp.stack(totals)

    return objective


def device_half(
    task: Task,
    local: LocalTraining,
    algorithm: Algorithm,
    aggregation: BoundStage,
    workload: Workload,
    *,
    rewrite: Rewrite = lambda objective: objective,
    align: Align | None = None,
    stages: BoundStage | None = None,
    measures_norms: bool = False,
) -> Callable[..., Outcome]:
    """The device half of a plan, as one traceable function.

    Args:
        task, local, algorithm: what is learned, and how.
        aggregation: the plan's stages, bound.
        workload: the shapes to compile for.
        rewrite: a transformation of the loss, applied before its gradient is taken. It lowers convolutions for a CPU.
        align: how dense layers are stored and differentiated between steps, such as `lowering.align_dense`; None to
            leave them unchanged.
        stages: the stages of each example's gradient, bound, where there is noise in every local step; otherwise None. With
            them, `rewrite` and `align` are not used.
        measures_norms: whether the outcome has the norm of the update before it is clipped: see `Plan.measures_norms`. No device sends it.

    Returns:
        `update(broadcast, columns, start, size, client_state, client_key, shared_key, drawn) -> Outcome`. The client owns rows
        `start : start + size` of every column (int32 scalars, `1 <= size <= workload.longest`). `client_key` is the
        client's key in this round. `shared_key` is the stages' key, the same for all clients. `drawn` is `()` without `stages`.
        Tracing it raises `PlanError` if the algorithm does what its `Client` refuses.
    """
    # The rewritings are made for batches of more than one example.
    objective = rewrite(objective_of(task)) if stages is None else objective_of(task)
    align = align if stages is None else None

    def update(
        broadcast: Broadcast,
        columns: Columns,
        start: jax.Array,
        size: jax.Array,
        client_state: Tree,
        client_key: jax.Array,
        shared_key: jax.Array,
        drawn: Drawn | tuple[()] = (),
    ) -> Outcome:
        examples = Examples(columns, start, size, local.batch_size, workload)
        example = {
            name: jax.ShapeDtypeStruct((local.batch_size, *column.shape[1:]), column.dtype)
            for name, column in columns.items()
        }
        states = broadcast.server_state, client_state
        arguments = (broadcast.params, example, None, client_key)
        storage = storage_for(
            align, objective, arguments, local, algorithm, states, workload.usual_steps(local)
        )
        noisy = None
        if stages is not None:
            assert isinstance(drawn, Drawn)
            noisy = NoisySteps(stages, drawn, shared_key)
        optimizer = local.optimizer_of(broadcast.round)
        measured = Measured.of(task)
        client = TrainingClient(local, examples, storage.fn, measured, optimizer, client_key, noisy)
        # The algorithm works on padded parameters. Once the padding is removed, its report is the same as without it.
        report = algorithm.device(client, *map(storage.pad, (broadcast.params, *states)))
        reported = _apart(storage, size, lambda: storage.unpad(client.subtracted(report.update)))
        new_state = storage.unpad(report.client_state)
        _check(
            algorithm,
            report._replace(update=reported, client_state=new_state),
            broadcast.params,
            client_state,
        )
        layout = Layout.of(reported)
        vector = _apart(storage, size, lambda: layout.flatten(reported))
        means, weight = client.first_pass
        loss = means[: 1 if task.loss_weight_bound is None else 2]
        own = [
            jnp.clip(jnp.reshape(scalar, (1,)), 0.0, limit.bound)
            for scalar, limit in zip(report.auxiliary, algorithm.auxiliary, strict=True)
        ]
        auxiliary = jnp.concatenate([weight[None], means, *own])
        # Metrics are not among them: one without a value keeps nobody from training.
        needed = jnp.concatenate([weight[None], loss, *own])
        sealed = seal(
            aggregation, vector, auxiliary, needed, client_key, shared_key, measures_norms=measures_norms
        )
        new_state = jax.tree.map(lambda n, o: n.astype(o.dtype), new_state, client_state)
        new_state = or_else(sealed.finite, new_state, client_state)
        return Outcome(sealed.message, new_state, sealed.finite, sealed.relative_norm)

    return update


class Sealed(NamedTuple):
    """One client's report, as it is sent; see `Outcome`."""

    message: Message
    finite: jax.Array
    relative_norm: jax.Array | tuple[()]


def seal(
    aggregation: BoundStage,
    vector: jax.Array,
    auxiliary: jax.Array,
    needed: jax.Array,
    client_key: jax.Array,
    shared_key: jax.Array,
    *,
    measures_norms: bool = False,
) -> Sealed:
    """An update through the plan's stages, or what stands for it if it is not finite. It is part of a traceable function.

    Args:
        aggregation: the plan's stages, bound.
        vector: the update: float32 `[update]`.
        auxiliary: what travels with it: float32 `[auxiliaries]`.
        needed: those of the auxiliary values without which an update cannot be used: metrics are not among them.
        client_key, shared_key: as for `device_half`.
        measures_norms: see `device_half`.
    """
    # One reduction finds any coordinate that is infinite or NaN: minus itself, every other coordinate is 0.
    finite = (jnp.sum(vector - vector) + jnp.sum(needed - needed)) == 0.0
    noise_covers_divisor = aggregation.spec.noise is not None
    unencoded = Message(
        or_else(finite, vector, jnp.zeros_like(vector)) if noise_covers_divisor else vector, auxiliary
    )
    encode_key = jax.random.fold_in(client_key, int(Purpose.ENCODE))
    message = aggregation.encode(unencoded, encode_key, shared_key)
    relative_norm: jax.Array | tuple[()] = ()
    if measures_norms and aggregation.relative_norm is not None:
        relative_norm = aggregation.relative_norm(unencoded, encode_key, shared_key)
    if not noise_covers_divisor:
        message = or_else(finite, message, jax.tree.map(jnp.zeros_like, message))
    return Sealed(message, finite, relative_norm)


def or_else(finite: jax.Array, new: Tree, old: Tree) -> Tree:
    """`new` where what it is of was finite, otherwise `old`."""
    return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)


def personal_half(
    task: Task,
    local: LocalTraining,
    algorithm: Algorithm,
    workload: Workload,
    *,
    rewrite: Rewrite = lambda objective: objective,
) -> Callable[..., Tree]:
    """The model that a client uses, as one traceable function. Its result stays on the client.

    Args:
        task, local, algorithm: what is learned, and how. Local training is without noise here.
        workload: the shapes to compile for.
        rewrite: see `device_half`.

    Returns:
        `personal(broadcast, columns, start, size, client_state, client_key) -> params`; the arguments are those of `device_half`.
    """
    objective = rewrite(objective_of(task))

    def personal(
        broadcast: Broadcast,
        columns: Columns,
        start: jax.Array,
        size: jax.Array,
        client_state: Tree,
        client_key: jax.Array,
    ) -> Tree:
        examples = Examples(columns, start, size, local.batch_size, workload)
        optimizer = local.optimizer_of(broadcast.round)
        client = TrainingClient(local, examples, objective, Measured.of(task), optimizer, client_key)
        return algorithm.personal(client, broadcast.params, broadcast.server_state, client_state)

    return personal


def _check(algorithm: Algorithm, report: Report, params: Tree, client_state: Tree) -> None:
    """Raise `PlanError` unless a report holds what its algorithm says: else numbers would be read as others."""

    # As text: a scalar's shape is an empty tuple, and so may a whole state be.
    def shapes(tree: Tree) -> Tree:
        return jax.tree.map(lambda leaf: f"{jnp.shape(leaf)}", tree)

    def forms(tree: Tree) -> Tree:
        # Floats may be longer: a gradient divided by a float32 is one, whatever the parameters are.
        dtypes = (jnp.result_type(leaf) for leaf in jax.tree.leaves(tree))
        kinds = ["float" if jnp.issubdtype(dtype, jnp.floating) else f"{dtype}" for dtype in dtypes]
        return jax.tree.map(
            lambda shape, kind: kind + shape, shapes(tree), jax.tree.structure(tree).unflatten(kinds)
        )

    pairs = [
        (
            "client_state",
            forms(report.client_state),
            forms(client_state),
            "Return it, with the shapes it began with.",
        ),
        (
            "auxiliary",
            len(report.auxiliary),
            len(algorithm.auxiliary),
            "Give one for each of Algorithm(auxiliary=).",
        ),
    ]
    if algorithm.update is not None:
        declared = shapes(jax.eval_shape(algorithm.update, params))
        pairs.append(
            ("update", shapes(report.update), declared, "Give Algorithm(update=) the shapes of the update.")
        )
    for name, given, expected, do in pairs:
        if given != expected:
            raise PlanError(
                f"algorithm {algorithm.name}, {name} of a report", given=given, expected=f"{expected}", do=do
            )


def _apart(storage: Storage, size: jax.Array, make: Callable[[], Tree]) -> Tree:
    """`make()`; where parameters are padded, compiled into loops of its own.

    A conditional that is always true keeps XLA from fusing the removal of padding with flattening and summing. Fused, it would
    fetch single numbers; copying whole rows is three times faster.
    """
    if not storage.padded:
        return make()
    shapes = jax.eval_shape(make)
    return lax.cond(size > 0, make, lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))
