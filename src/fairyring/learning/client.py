"""The local loop, which a device half calls: the implementation of `fairyring.learning.algorithm.Client`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.extend.core import get_opaque_trace_state

from fairyring.aggregation.contract import BoundStage
from fairyring.core.errors import PlanError, PopulationError
from fairyring.core.keys import Purpose
from fairyring.core.numbers import literal_numbers
from fairyring.core.vector import Layout
from fairyring.learning.algorithm import Batch, Gradient, Trained
from fairyring.learning.batches import Columns, Examples
from fairyring.learning.example_steps import Drawn, places_of, released, sum_of_batch
from fairyring.learning.local import LocalTraining
from fairyring.learning.measured import Measured

Tree = Any
# `(params, batch, mask, key) -> (mean loss, totals)`. `totals` is float32 `[2 + 2 metrics + 1]`: the sums of weighted values and of
# weights, for the loss and for each metric, then the sum of the examples' weights.
Objective = Callable[..., tuple[jax.Array, jax.Array]]


class NoisySteps(NamedTuple):
    """What noisy local steps need.

    Attributes:
        stages: the stages of each example's gradient, bound.
        drawn: the noise and the batches that this client drew for the round.
        shared_key: the stages' key, the same for all clients.
    """

    stages: BoundStage
    drawn: Drawn
    shared_key: jax.Array


class FirstPass(NamedTuple):
    """What a round records of the first pass over a client's examples.

    Attributes:
        means: of the loss and of each metric, as they travel: see `Measured.coordinates_of`.
        weight: how much the client counts, as it goes into the stages: float32 scalar; see `LocalTraining.importance`. It is 1 where
            noise protects examples.
    """

    means: jax.Array
    weight: jax.Array


class TrainingClient:
    """A client with its examples, as an algorithm sees it during tracing.

    Args:
        local: the plan's local training.
        examples: the client's examples.
        objective: the local loss, as a function of the parameters as they are stored.
        measured: what the objective's totals are of.
        optimizer: the round's local optimiser.
        key: the client's key in this round.
        noisy: what noisy steps need, where noise protects examples; otherwise None.
    """

    def __init__(
        self,
        local: LocalTraining,
        examples: Examples,
        objective: Objective,
        measured: Measured,
        optimizer: optax.GradientTransformation,
        key: jax.Array,
        noisy: NoisySteps | None = None,
    ) -> None:
        self._local, self._examples, self._optimizer, self._noisy = local, examples, optimizer, noisy
        self._objective = literal_numbers(objective)
        self._gradient_of = literal_numbers(jax.grad(objective, has_aux=True))
        self._measured, self._totals, self._key = measured, measured.totals, key
        self._calls = 0
        self._ends: dict[int, tuple[jax.Array, jax.Array]] = {}
        self._deltas: list[Tree] = []
        self._first_pass: FirstPass | None = None
        self._trace = get_opaque_trace_state()

    def sgd(
        self,
        start: Tree,
        gradient: Gradient | None = None,
        *,
        optimizer: optax.GradientTransformation | None = None,
        epochs: int | jax.Array | None = None,
        steps: int | jax.Array | None = None,
        mean_gradient: bool = False,
    ) -> Trained:
        """See `fairyring.learning.algorithm.Client`.

        Raises:
            PlanError: both `epochs` and `steps` are given, or one that is no whole number of at least 0; or, where noise protects examples, either is given, or this is the
                second call. `Client` says what else a gradient function is refused.
        """
        if epochs is not None and steps is not None:
            raise PlanError(
                "client.sgd",
                given="epochs and steps",
                expected="one of the two, or neither",
                do="Leave one of them out.",
            )
        for name, value in (("epochs", epochs), ("steps", steps)):
            if isinstance(value, float) or (isinstance(value, int) and value < 0):
                raise PlanError(
                    f"client.sgd {name}",
                    given=value,
                    expected="a whole number >= 0",
                    do=f"Set {name}=0 or more.",
                )
        training = _Training(optimizer or self._optimizer, gradient or _plain_gradient, mean_gradient)
        progress = training.begin(start, self._totals)
        shuffle_key, model_key = self._keys()
        if self._noisy is not None:
            if epochs is not None or steps is not None or self._calls > 1:
                raise _refusal("another number of epochs or steps, or a second call of sgd")
            if not self._is_outside_loops:  # traced once, it would run many times with the same noise
                raise _refusal("sgd in a loop, or under another transformation")
            progress = self._run_noisy(training, progress, self._noisy, shuffle_key, model_key)
            self._note_first_pass(
                progress.totals, jnp.float32(1)
            )  # the number of examples stays with the client
        else:
            progress, weight, measured = self._run(training, progress, epochs, steps, shuffle_key, model_key)
            if measured:
                self._note_first_pass(progress.totals, weight)
        count = progress.steps.astype(jnp.float32)
        taken = count if epochs is None and steps is None else jnp.maximum(count, 1)  # perhaps none
        delta = jax.tree.map(jnp.subtract, progress.params, start)
        ends = zip(jax.tree.leaves(progress.params), jax.tree.leaves(start), strict=True)
        self._ends |= dict(zip(map(id, jax.tree.leaves(delta)), ends, strict=True))
        self._deltas.append(delta)  # kept, so that no other leaf gets its identity
        return Trained(
            progress.params,
            delta,
            count,
            jax.tree.map(lambda g: g / taken, progress.gradient) if mean_gradient else None,
        )

    def mean(self, f: Callable[[Batch], Tree]) -> Tree:
        """See `fairyring.learning.algorithm.Client`.

        Raises:
            PlanError: noise protects examples.
        """
        count = self._examples.size.astype(jnp.float32)
        total = self.total(lambda batch: jax.tree.map(lambda leaf: leaf * jnp.sum(batch.mask), f(batch)))
        return jax.tree.map(lambda leaf: leaf / count, total)

    def total(self, f: Callable[[Batch], Tree]) -> Tree:
        """See `fairyring.learning.algorithm.Client`.

        Raises:
            PlanError: noise protects examples.
        """
        if self._noisy is not None:
            raise _refusal("means or sums over examples without noise")
        model_key = self._keys()[1]
        measured = False

        def of_batch(places: jax.Array, mask: jax.Array | None) -> tuple[Tree, jax.Array]:
            nonlocal measured
            batch = self._batch(places, mask, jax.random.fold_in(model_key, places[0]))
            value = f(batch)
            measured = batch.measured
            return value, batch.totals

        rows = self._examples.batch_size
        shapes = jax.eval_shape(of_batch, jnp.zeros(rows, jnp.int32), jnp.zeros(rows))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total, totals = self._examples.once(
            zeros, lambda carry, places, mask: jax.tree.map(jnp.add, carry, of_batch(places, mask))
        )
        if measured:
            self._note_first_pass(totals, self._weight)
        return total

    @property
    def first_pass(self) -> FirstPass:
        """What the round records of the first pass that took a gradient or a loss. Without any, all means are 0."""
        if self._first_pass is not None:
            return self._first_pass
        weight = jnp.float32(1) if self._noisy is not None else self._weight
        return FirstPass(jnp.zeros(len(self._measured.coordinates)), weight)

    @property
    def _weight(self) -> jax.Array:
        """How much the client counts: the sum of `LocalTraining.importance`, else of the column `weight`, else the number of examples."""
        size, name = self._examples.size, self._local.importance or "weight"
        column = self._examples.columns.get(name)
        if column is None and self._local.importance is None:
            return size.astype(jnp.float32)
        if column is None:
            raise PopulationError(
                f"column {name!r}",
                given=f"columns {', '.join(self._examples.columns)}",
                expected="the column that LocalTraining(importance=) names",
                do="Add the column to the training population, or leave importance= out.",
            )
        places = jnp.arange(self._examples.workload.longest)
        values = self._examples.rows(places)[name].astype(jnp.float32)
        return jnp.sum(jnp.where(places < size, values, 0.0))

    @property
    def _is_outside_loops(self) -> bool:
        """Whether this is traced as the device half itself is, in no loop or transformation of the algorithm's own."""
        return get_opaque_trace_state() == self._trace

    def subtracted(self, update: Tree) -> Tree:
        """An update, in which deltas of `sgd` are subtracted here: where this is traced, with what comes next.

        Where they were first written down, nothing reads them then, and a pass over all parameters is saved.
        """

        def again(leaf: jax.Array) -> jax.Array:
            ends = self._ends.get(id(leaf))
            return leaf if ends is None else jnp.subtract(*ends)

        return jax.tree.map(again, update)

    def _keys(self) -> tuple[jax.Array, jax.Array]:
        """The keys of a call: for the order of the examples, and for the model."""
        key = self._key
        if self._calls:
            key = jax.random.fold_in(jax.random.fold_in(key, int(Purpose.CALL)), self._calls)
        self._calls += 1
        return jax.random.fold_in(key, int(Purpose.SHUFFLE)), jax.random.fold_in(key, int(Purpose.MODEL))

    def _note_first_pass(self, totals: jax.Array, weight: jax.Array) -> None:
        if self._first_pass is None and self._is_outside_loops:
            self._first_pass = FirstPass(self._measured.coordinates_of(totals), weight)

    def _batch(self, places: jax.Array, mask: jax.Array | None, key: jax.Array) -> "_Batch":
        return _Batch(self._examples.rows(places), mask, key, len(places), self)

    def _run(
        self,
        training: "_Training",
        progress: "_Progress",
        epochs: int | jax.Array | None,
        steps: int | jax.Array | None,
        shuffle_key: jax.Array,
        model_key: jax.Array,
    ) -> tuple["_Progress", jax.Array, bool]:
        """Train, by the plan's epochs or steps unless others are given. Also returns the weight of the examples, and whether
        their loss was measured."""
        local, examples, workload = self._local, self._examples, self._examples.workload
        measured = False

        def order(number: int | jax.Array) -> jax.Array:
            return examples.order(jax.random.fold_in(shuffle_key, number) if local.shuffle else None)

        def body(progress: _Progress, places: jax.Array, mask: jax.Array | None) -> _Progress:
            nonlocal measured
            batch = self._batch(places, mask, jax.random.fold_in(model_key, progress.steps))
            progress = training.step(progress, batch)
            measured = batch.measured
            return progress

        as_planned = epochs is None and steps is None
        if as_planned:
            epochs, steps = local.epochs, local.steps
        if steps is not None:
            unroll = workload.unroll if as_planned else 1
            progress = examples.steps(order(0), steps, progress, body, unroll)
            return progress, self._weight, measured
        unroll, even = (workload.unroll, workload.even) if local.steps is None else (1, True)

        def epoch(number: jax.Array, progress: _Progress) -> _Progress:
            return examples.epoch(order(number), progress, body, unroll, even=even)

        assert epochs is not None
        if isinstance(epochs, int) and epochs == 1:
            progress = epoch(jnp.int32(0), progress)
        else:
            progress = lax.fori_loop(0, epochs, epoch, progress)
        # The sum of the examples' weights is at hand where the plan's own epochs, which are at least one, were run.
        at_hand = as_planned and local.importance is None
        weight = progress.totals[-1] / epochs if at_hand else self._weight
        return progress, weight, measured

    def _run_noisy(
        self,
        training: "_Training",
        progress: "_Progress",
        noisy: NoisySteps,
        shuffle_key: jax.Array,
        model_key: jax.Array,
    ) -> "_Progress":
        """Train on noisy sums of the examples' gradients. Only what the noise covers leaves a step."""
        local, examples = self._local, self._examples
        drawn, size, batch_size = noisy.drawn, examples.size, examples.batch_size
        layout, rows = Layout.of(progress.params), (examples.start, size)

        def step(progress: _Progress, places: jax.Array) -> _Progress:
            keys = jax.random.fold_in(model_key, progress.steps), noisy.shared_key
            total = sum_of_batch(
                self._gradient_of,
                self._measured,
                progress.params,
                examples.columns,
                rows,
                places,
                noisy.stages,
                keys,
            )
            mean, totals = released(
                total, self._measured, drawn.noise[progress.steps], noisy.stages, noisy.shared_key, batch_size
            )
            return training.step(progress, _NoisyBatch(progress.params, layout.unflatten(mean), totals))

        def epoch(number: jax.Array, progress: _Progress) -> _Progress:
            order = examples.order(jax.random.fold_in(shuffle_key, number) if local.shuffle else None)
            room = drawn.batches.shape[1]
            return lax.fori_loop(
                0,
                -(-size // batch_size),
                lambda i, p: step(p, places_of(i, order, size, batch_size, room)),
                progress,
            )

        if local.steps is not None:
            return lax.fori_loop(0, local.steps, lambda i, p: step(p, drawn.batches[i]), progress)
        return lax.fori_loop(0, local.epochs or 1, epoch, progress)


class _Progress(NamedTuple):
    """The state of a loop over batches."""

    params: Tree
    optimizer: Tree
    totals: jax.Array
    gradient: Tree  # the sum of the batches' first gradients; () if it is not asked for
    steps: jax.Array


@dataclass(frozen=True)
class _Training:
    """How one call of `sgd` updates the parameters with a batch."""

    optimizer: optax.GradientTransformation
    gradient: Gradient
    mean_gradient: bool

    def begin(self, start: Tree, totals: int) -> _Progress:
        return _Progress(
            start,
            self.optimizer.init(start),
            jnp.zeros((totals,), jnp.float32),
            jax.tree.map(jnp.zeros_like, start) if self.mean_gradient else (),
            jnp.int32(0),
        )

    def step(self, progress: _Progress, batch: "_Batch | _NoisyBatch") -> _Progress:
        direction = self.gradient(progress.params, batch)
        updates, state = self.optimizer.update(direction, progress.optimizer, progress.params)
        params = jax.tree.map(lambda w, u: w + u.astype(w.dtype), progress.params, updates)
        gradient = progress.gradient
        if self.mean_gradient:
            gradient = jax.tree.map(jnp.add, gradient, batch.first_gradient)
        return _Progress(params, state, progress.totals + batch.totals, gradient, progress.steps + 1)


class _Batch:
    """A batch of training without noise. It notes the totals of its first gradient or loss, for the round's record."""

    def __init__(
        self, columns: Columns, mask: jax.Array | None, key: jax.Array, rows: int, client: TrainingClient
    ) -> None:
        self._columns, self._mask, self._key, self._rows, self._client = columns, mask, key, rows, client
        self._noted: jax.Array | None = None
        self._first: Tree | None = None

    @property
    def mask(self) -> jax.Array:
        return jnp.ones(self._rows, jnp.float32) if self._mask is None else self._mask

    def gradient(self, params: Tree) -> Tree:
        gradient, totals = self._client._gradient_of(params, self._columns, self._mask, self._key)
        if self._first is None and self._is_outside_loops(totals):
            self._first = gradient
        self._note(totals)
        return gradient

    def loss(self, params: Tree) -> jax.Array:
        loss, totals = self._client._objective(params, self._columns, self._mask, self._key)
        self._note(totals)
        return loss

    def __getitem__(self, name: str) -> jax.Array:
        return self._columns[name]

    @property
    def totals(self) -> jax.Array:
        """The objective's totals at the first parameters it was evaluated at; if it was not, only the examples' weights."""
        if self._noted is not None:
            return self._noted
        weight = jnp.sum(_weights(self._columns, self._rows) * self.mask)
        return jnp.zeros(self._client._totals).at[-1].set(weight)

    @property
    def measured(self) -> bool:
        """Whether `totals` hold the loss and the metrics."""
        return self._noted is not None

    @property
    def first_gradient(self) -> Tree:
        """The first gradient of the batch that was taken outside of the algorithm's own loops and transformations."""
        if self._first is None:
            raise PlanError(
                "client.sgd(mean_gradient=True)",
                given="a gradient function that does not call batch.gradient itself",
                expected="one that calls it, outside of any loop or transformation",
                do="Call batch.gradient(params) first.",
            )
        return self._first

    def _note(self, totals: jax.Array) -> None:
        if self._noted is None and self._is_outside_loops(totals):
            self._noted = totals

    def _is_outside_loops(self, totals: jax.Array) -> bool:
        # A value of an inner trace cannot be used in this one.
        return getattr(totals, "_trace", None) is getattr(self._key, "_trace", None)


class _NoisyBatch:
    """A batch of training with noise: its noisy gradient was released once, at the parameters of its step."""

    def __init__(self, params: Tree, gradient: Tree, totals: jax.Array) -> None:
        self._params, self.first_gradient, self.totals = params, gradient, totals

    def gradient(self, params: Tree) -> Tree:
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(self._params), strict=True)
        if not all(leaf is own_leaf for leaf, own_leaf in pairs):
            raise _refusal("gradients at other parameters than the step's own")
        return self.first_gradient

    @property
    def mask(self) -> jax.Array:
        raise _refusal("the number of examples in a batch")

    def loss(self, params: Tree) -> jax.Array:
        raise _refusal("a loss without noise")

    def __getitem__(self, name: str) -> jax.Array:
        raise _refusal("columns of examples")


def _plain_gradient(params: Tree, batch: Batch) -> Tree:
    return batch.gradient(params)


def _weights(columns: Columns, rows: int) -> jax.Array:
    """The weight of each example: float32 `[rows]`."""
    return columns["weight"] if "weight" in columns else jnp.ones((rows,), jnp.float32)


def _refusal(given: str) -> PlanError:
    return PlanError(
        "algorithm, where noise protects examples",
        given=f"one that uses {given}",
        expected="one that trains once and uses only each step's noisy gradient: no other noise is drawn or accounted for",
        do="Use another algorithm, or a budget for every device.",
    )
