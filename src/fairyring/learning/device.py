"""The device half of a round: one client's examples in, one encoded message out.

A pure function of what the server sent, the client's rows, its own state and two keys. In simulation it is
compiled into the engine's loop over clients; for real devices it is exported as it stands.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.aggregation.contract import BoundStage, Message
from fairyring.core.keys import Purpose
from fairyring.core.vector import Layout
from fairyring.learning._storage import Align, storage_for
from fairyring.learning.algorithm import Algorithm, Local, leaves_gradient
from fairyring.learning.example_steps import Drawn, places_of, released, sum_of_batch
from fairyring.learning.local import LocalTraining, Workload
from fairyring.lowering import Storage
from fairyring.task import Task

Tree = Any
Columns = Mapping[str, jax.Array]
Rewrite = Callable[[Callable], Callable]

TINY = 1e-12
PACKED = 4096  # examples whose random order is drawn by sorting single words


class Broadcast(NamedTuple):
    """What the server sends to the clients of a round."""

    params: Tree
    shared: Tree
    round: Any  # int32 scalar


class Outcome(NamedTuple):
    """What comes of one client's round.

    Attributes:
        message: encoded, to be added to those of the others whatever the update was. If it was not finite: that of a zero
            vector at the client's own weight under a noise stage, whose promise covers the divisor too; else all
            zeros, the weight among them, which leaves the client out of the mean.
        mine: the client's new state; the old one if its update was not finite.
        finite: whether its update, with all that travels beside it, was finite.
    """

    message: Message
    mine: Tree
    finite: jax.Array


class _Progress(NamedTuple):
    """What the loop over batches carries."""

    params: Tree
    optimizer: Tree
    totals: (
        jax.Array
    )  # [2 + 2 metrics + 1]: (value, weight) of loss and each metric, then the examples' weights
    gradient: Tree  # sum of uncorrected gradients, or ()
    steps: jax.Array


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
) -> Callable[..., Outcome]:
    """The device half of a plan, as one traceable function.

    Args:
        task, local, algorithm: what is learned and how.
        aggregation: the plan's stages, bound.
        workload: the shapes to compile for.
        rewrite: applied to the loss before its gradient is taken (how convolutions are lowered for a CPU).
        align: how dense layers are stored and differentiated between steps, such as `lowering.align_dense`; None to
            leave them as they are.
        stages: of each example's gradient, bound, where there is noise in every step. Parameters are left as they are then.

    Returns:
        `update(broadcast, columns, start, size, mine, client_key, shared_key, drawn) -> Outcome`. The client owns rows
        `start : start + size` of every column (int32 scalars, `1 <= size <= workload.longest`). `client_key` is the
        client's in this round, `shared_key` that of the stages, the same for all clients. `drawn` is nothing, `()`, without `stages`.
    """
    batch_size = local.batch_size

    def objective(params: Tree, batch: Columns, mask: jax.Array | None, key: jax.Array):
        outputs = task.forward(params, batch, key)
        pairs = [task.loss(outputs, batch)]
        pairs += [metric.measure(outputs, batch) for metric in task.metrics.values()]
        rows = batch[task.inputs].shape[0]
        totals = []
        for value, weight in pairs:
            weight = jnp.broadcast_to(weight, (rows,)).astype(jnp.float32)
            weight = weight if mask is None else weight * mask
            totals += [jnp.sum(value * weight), jnp.sum(weight)]
        loss = totals[0] / jnp.maximum(totals[1], TINY)
        examples = batch["weight"] if "weight" in batch else jnp.ones((rows,), jnp.float32)
        totals.append(jnp.sum(examples if mask is None else examples * mask))
        return loss, jnp.stack(totals)

    # The rewritings are made for whole batches.
    rewritten = rewrite(objective) if stages is None else objective
    align = align if stages is None else None

    def update(
        broadcast: Broadcast,
        columns: Columns,
        start: jax.Array,
        size: jax.Array,
        mine: Tree,
        client_key: jax.Array,
        shared_key: jax.Array,
        drawn: Drawn | tuple[()] = (),
    ) -> Outcome:
        example = {
            name: jax.ShapeDtypeStruct((batch_size, *column.shape[1:]), column.dtype)
            for name, column in columns.items()
        }
        arguments = (broadcast.params, example, None, client_key)
        states = (broadcast.shared, mine)
        storage = storage_for(align, rewritten, arguments, local, algorithm, states)
        gradient_of = jax.grad(storage.fn, has_aux=True)
        received = storage.pad(broadcast.params)
        # What an algorithm corrects gradients with, beside them.
        corrects = algorithm.correct is not leaves_gradient
        shared, own = (
            storage.pad(state) if storage.padded and corrects and jax.tree.leaves(state) else state
            for state in states
        )
        optimizer = local.optimizer_of(broadcast.round)
        shuffle_key = jax.random.fold_in(client_key, int(Purpose.SHUFFLE))
        model_key = jax.random.fold_in(client_key, int(Purpose.MODEL))

        def step(progress: _Progress, places: jax.Array, mask: jax.Array | None) -> _Progress:
            # Places past the client's end carry no weight; they repeat its own last example, never a neighbour's.
            rows = start + jnp.minimum(places, size - 1)
            batch = {name: column.at[rows].get(mode="clip") for name, column in columns.items()}
            key = jax.random.fold_in(model_key, progress.steps)
            return moved(progress, *gradient_of(progress.params, batch, mask, key))

        def moved(progress: _Progress, gradient: Tree, totals: jax.Array) -> _Progress:
            corrected = algorithm.correct(gradient, progress.params, received, shared, own)
            moves, state = optimizer.update(corrected, progress.optimizer, progress.params)
            params = jax.tree.map(lambda w, m: w + m.astype(w.dtype), progress.params, moves)
            total_gradient = progress.gradient
            if algorithm.gradient:
                total_gradient = jax.tree.map(jnp.add, total_gradient, gradient)
            return _Progress(params, state, progress.totals + totals, total_gradient, progress.steps + 1)

        def epoch(number: jax.Array, progress: _Progress) -> _Progress:
            order = _order(jax.random.fold_in(shuffle_key, number), size, workload, local.shuffle)

            def full(i: jax.Array, progress: _Progress) -> _Progress:
                return step(progress, lax.dynamic_slice(order, (i * batch_size,), (batch_size,)), None)

            batches = size // batch_size
            if workload.longest >= batch_size:
                progress = _blocks(batches, full, progress, workload)
            left = size - batches * batch_size
            for smaller, capacity in zip((0, *workload.tails), workload.tails, strict=False):
                # A loop of at most one turn: unlike a conditional it updates the parameters in place.
                def tail(_: jax.Array, progress: _Progress, capacity: int = capacity) -> _Progress:
                    places = lax.dynamic_slice(order, (batches * batch_size,), (capacity,))
                    mask = (jnp.arange(capacity) < left).astype(jnp.float32)
                    return step(progress, places, mask)

                turns = ((left > smaller) & (left <= capacity)).astype(jnp.int32)
                progress = lax.fori_loop(0, turns, tail, progress)
            return progress

        def fixed(progress: _Progress) -> _Progress:
            order = _order(jax.random.fold_in(shuffle_key, 0), size, workload, local.shuffle)
            small = workload.smallest < batch_size
            mask = (jnp.arange(batch_size) < size).astype(jnp.float32) if small else None

            def wrapped(i: jax.Array, progress: _Progress) -> _Progress:
                places = order[(i * batch_size + jnp.arange(batch_size)) % size]
                return step(progress, places, mask)

            return _blocks(jnp.int32(local.steps), wrapped, progress, workload)

        def noisy(progress: _Progress, drawn: Drawn, stages: BoundStage) -> _Progress:
            layout, rows = Layout.of(received), (start, size)

            def one(progress: _Progress, places: jax.Array) -> _Progress:
                keys = jax.random.fold_in(model_key, progress.steps), shared_key
                total = sum_of_batch(gradient_of, progress.params, columns, rows, places, stages, keys)
                noise = drawn.noise[progress.steps]
                mean, totals = released(total, noise, stages, shared_key, batch_size)
                return moved(progress, layout.unflatten(mean), totals)

            def sampled(i: jax.Array, progress: _Progress) -> _Progress:
                return one(progress, drawn.batches[i])

            def epoch(number: jax.Array, progress: _Progress) -> _Progress:
                order = _order(jax.random.fold_in(shuffle_key, number), size, workload, local.shuffle)
                room = drawn.batches.shape[1]
                return lax.fori_loop(
                    0,
                    -(-size // batch_size),
                    lambda i, p: one(p, places_of(i, order, size, batch_size, room)),
                    progress,
                )

            if local.steps is not None:
                return lax.fori_loop(0, local.steps, sampled, progress)
            return lax.fori_loop(0, local.epochs or 1, epoch, progress)

        progress = _Progress(
            received,
            optimizer.init(received),
            jnp.zeros((2 * len(task.metrics) + 3,), jnp.float32),
            jax.tree.map(jnp.zeros_like, received) if algorithm.gradient else (),
            jnp.int32(0),
        )
        if stages is not None:
            assert isinstance(drawn, Drawn)
            progress = noisy(progress, drawn, stages)
            weight = jnp.float32(1)  # how many examples there are stays here
        elif local.steps is not None:
            progress = fixed(progress)
            weight = size.astype(jnp.float32)
        else:
            progress = (
                epoch(jnp.int32(0), progress)
                if local.epochs == 1
                else lax.fori_loop(0, local.epochs, epoch, progress)
            )
            weight = progress.totals[-1] / (local.epochs or 1)

        steps = progress.steps.astype(jnp.float32)
        delta = _apart(
            storage,
            progress.steps,
            lambda: storage.unpad(jax.tree.map(jnp.subtract, progress.params, received)),
        )
        gradient = storage.unpad(progress.gradient) if algorithm.gradient else None
        mean_gradient = jax.tree.map(lambda g: g / steps, gradient)
        report = algorithm.report(Local(delta, steps, mean_gradient), broadcast.shared, mine)
        layout = Layout.of(report.update)
        vector = _apart(storage, progress.steps, lambda: layout.flatten(report.update))
        means = progress.totals[:-1:2] / jnp.maximum(progress.totals[1::2], TINY)
        auxiliary = jnp.concatenate([weight[None], means, *(jnp.reshape(s, (1,)) for s in report.auxiliary)])
        # One reduction tells whether any coordinate is infinite or not a number: less itself, only those are not 0.
        finite = (jnp.sum(vector - vector) + jnp.sum(auxiliary - auxiliary)) == 0.0

        def or_else(new: Tree, old: Tree) -> Tree:
            return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

        covered = aggregation.spec.noise is not None
        sent = Message(or_else(vector, jnp.zeros_like(vector)) if covered else vector, auxiliary)
        message = aggregation.encode(sent, jax.random.fold_in(client_key, int(Purpose.ENCODE)), shared_key)
        if not covered:
            message = or_else(message, jax.tree.map(jnp.zeros_like, message))
        return Outcome(message, or_else(report.mine, mine), finite)

    return update


def _apart(storage: Storage, steps: jax.Array, make: Callable[[], Tree]) -> Tree:
    """`make()`, in loops of its own where parameters are padded.

    A conditional that always holds keeps XLA from fusing what takes the padding out with what flattens and sums, where
    it would fetch single numbers: whole rows are three times faster.
    """
    if not storage.padded:
        return make()
    shapes = jax.eval_shape(make)
    return lax.cond(steps > 0, make, lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))


def _blocks(count: jax.Array, body: Callable, carry: _Progress, workload: Workload) -> _Progress:
    """`count` turns of `body(i, carry)`, several a loop iteration: a small step costs less than a loop's turn."""
    width = workload.unroll
    if width == 1:
        return lax.fori_loop(0, count, body, carry)

    def block(i: jax.Array, carry: _Progress) -> _Progress:
        for j in range(width):
            carry = body(i * width + j, carry)
        return carry

    blocks = count // width
    carry = lax.fori_loop(0, blocks, block, carry)
    return carry if workload.even else lax.fori_loop(blocks * width, count, body, carry)


def _order(key: jax.Array, size: jax.Array, workload: Workload, shuffle: bool) -> jax.Array:
    """A client's examples in the order of an epoch: int32 `[longest + largest tail]`, the first `size` of them valid.

    Random bits are sorted, the places past `size` behind all others, in the smallest of a few lengths that
    holds the client, so that a small client does not pay for sorting the largest one's length.
    """
    longest = workload.longest
    spare = max(workload.tails, default=0)
    places = jnp.arange(longest + spare, dtype=jnp.int32)
    if not shuffle:
        return places

    def shuffled(length: int, order: jax.Array) -> jax.Array:
        here = jnp.arange(length, dtype=jnp.int32)
        bits = jax.random.bits(key, (length,))
        if length <= PACKED:
            # Random high bits and the place in the low ones: one word to sort. Two of at least 20 random bits are
            # seldom alike, and then their places decide.
            low = (length - 1).bit_length()
            bits = jnp.where(here < size, bits >> low, jnp.uint32(0xFFFFFFFF >> low))
            packed = lax.sort(bits << low | here.astype(jnp.uint32), is_stable=False)
            drawn = (packed & jnp.uint32((1 << low) - 1)).astype(jnp.int32)
        else:
            # Clearing the lowest bit leaves the largest value to the places past the end.
            bits = jnp.where(here < size, bits >> 1, jnp.uint32(0xFFFFFFFF))
            _, drawn = lax.sort((bits, here), num_keys=1, is_stable=True)
        return lax.dynamic_update_slice(order, drawn, (0,))

    order, smaller = places, 0
    for length in workload.orders:
        turns = ((size > smaller) & (size <= length)).astype(jnp.int32)
        if len(workload.orders) == 1:
            return shuffled(length, order)
        order = lax.fori_loop(0, turns, lambda _, o, length=length: shuffled(length, o), order)
        smaller = length
    return order
