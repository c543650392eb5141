"""The reconstruction attack that fits a plan's model, with what an attacker knows: the plan, its first model, other clients' examples."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.aggregation.contract import Message
from fairyring.core.errors import PlanError
from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root
from fairyring.core.program import interruptible_jit
from fairyring.learning.optimizers import fedavg
from fairyring.learning.plan import Plan
from fairyring.population import Population
from fairyring.privacy.correlated import coefficients
from fairyring.privacy.first_layer import Candidates, read_first_layer
from fairyring.privacy.prior import Prior
from fairyring.privacy.reconstruction import find_dense, infer_label, match_gradients

Tree = Any

_RESTARTS = 6  # of gradient matching
_ROWS = 256  # prepared at once
_ALWAYS = (
    "each release is attacked alone: nothing is combined over the rounds of a run, whose later models are not attacked at all",
    "the server is taken to send the model that the plan makes, not one that is made to leak",
)
_LIMITS = {
    "units": (
        "examples that share all their units with others are separated only where ones that were read before can be taken off: "
        "the whole layer is not factored (Dimitrov et al. 2024), nor unmixed by independent components (Kariyappa et al. 2023)",
        "of how examples look, the attack knows ranges and the values they have, and no model that makes images",
        *_ALWAYS,
    ),
    "no hidden units": (
        "without hidden units every example moves every class, so that a sum of several examples has no unit of one alone: "
        "what is read off it is a mixture, near an example at most",
        *_ALWAYS,
    ),
    "matching": (
        "one example is sought for a gradient that many made, from a few starts; examples are not sought together, and of how "
        "they look the attack knows no more than that neighbouring pixels are alike",
        *_ALWAYS,
    ),
}


class NoAttack(PlanError):
    """No attack here fits the plan or its population."""


class Attacker:
    """Reconstructs examples from gradients and changes of one model.

    Args:
        plan: whose task and stages the attacker knows.
        population: for shapes, and for values to start from.
        params: the model that clients start from.
        seed: of the starting points of gradient matching.

    Attributes:
        name: of the attack.
        limits: what it cannot show, in words.
    """

    def __init__(self, plan: Plan, population: Population, params: Tree, seed: int) -> None:
        self.plan, self.population, self.params = plan, population, params
        self._root = root(seed)
        self._prepare, self._gradient = (
            interruptible_jit(plan.task.prepare),
            interruptible_jit(self._gradient_of),
        )
        first = self.prepared(np.arange(min(len(population), 8)), 8)
        if not np.issubdtype(first.dtype, np.floating):
            raise NoAttack(
                "audit",
                given=f"inputs of {first.dtype}",
                expected="real numbers, such as pixels: letters and words are not sought by these attacks",
                do="Audit with canaries alone.",
            )
        self.shape = first.shape[1:]
        self.features = int(np.prod(self.shape))
        self._dense = find_dense(plan.layout, self.features)
        self._classes = self._count_classes(first)
        self._of_soft = self._of_soft_at(params) if self._classes else None
        self._signals = interruptible_jit(self._bias_gradients) if self._dense and self._classes else None
        self._rounded = interruptible_jit(self._encoded)
        if self._dense is None:
            kind, self.name = "matching", f"gradient matching from {_RESTARTS} starts"
        else:
            hidden = self._dense[1].size != self._classes
            kind = "units" if hidden else "no hidden units"
            self.name = "quotients of each unit of the first dense layer"
            if hidden and self._signals is not None:
                self.name += ", what was read taken off"
        self.limits = _LIMITS[kind]
        if self._dense is None and not self._classes:
            raise NoAttack(
                "audit",
                given=f"a task {plan.task.name!r} whose model has no dense first layer",
                expected="a classification, whose loss gradient matching knows",
                do="Audit with canaries alone.",
            )

    def prepared(self, clients: np.ndarray, most: int) -> np.ndarray:
        """Examples of clients as the model sees them, `[n, ...]` with `n` at most `most`."""
        task, sizes = self.plan.task, np.asarray(self.population.sizes)[clients]
        enough = int(np.searchsorted(np.cumsum(sizes), most)) + 1
        rows, _ = self.population.gather(clients[:enough])
        column = rows[task.inputs][:most]
        padded = np.resize(
            column, (-(-len(column) // _ROWS) * _ROWS, *column.shape[1:])
        )  # one shape, one program
        parts = [np.asarray(self._prepare(part)) for part in padded.reshape(-1, _ROWS, *column.shape[1:])]
        return np.concatenate(parts)[: len(column)]

    def gradient(self, client: int) -> np.ndarray:
        """The gradient of the loss of a client's first example, `[d]`."""
        return np.asarray(self._gradient(self.params, self._first_of(client)))

    def _first_of(self, client: int) -> dict[str, jax.Array]:
        rows, _ = self.population.gather(np.array([client]))
        return {name: jnp.asarray(rows[name][:1]) for name in self.plan.task.reads(self.population)}

    def _gradient_of(self, params: Tree, batch: dict[str, jax.Array]) -> jax.Array:
        task = self.plan.task

        def loss(weights: Tree) -> jax.Array:
            value, _ = task.loss(task.forward(weights, batch, None), batch)
            return value.sum() if task.penalty is None else value.sum() + task.penalty(weights)

        return self.plan.layout.flatten(jax.grad(loss)(params))

    def noise(self, change: np.ndarray, clients: int) -> float:
        """Standard deviation of everything in each number of a release besides the mean of so many updates.

        That of a noise stage is known. For that of rounding, a change like the one that was seen is sent twice through the
        plan's stages, since rounding is random each time.
        """
        noise, squares = self.plan.bound.spec.noise, 0.0
        if noise is not None:
            bands = float(np.linalg.norm(coefficients(noise.bands))) if noise.bands else 1.0
            squares += (noise.sigma * bands / noise.scale / clients) ** 2
        vector = np.resize(np.asarray(change, np.float32) * np.sqrt(clients), self.plan.update_layout.size)
        keys = [of_client(self._root, number, Purpose.ENCODE) for number in range(2)]
        one, other = (np.asarray(self._rounded(vector, key)) for key in keys)
        squares += float(np.mean((one - other) ** 2)) / 2.0 / clients
        weights = np.concatenate([np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(self.params)])
        squares += float(np.mean(weights**2)) * 2.0**-50  # a release is a model, rounded to float32
        return float(np.sqrt(squares))

    def read(self, change: np.ndarray, prior: Prior, number: int, *, noise: float = 0.0) -> Candidates:
        """Reconstruct examples from `change`, `[d]`: a gradient, or a positive multiple of a sum of gradients.

        From a change of zeros it is the middle of the prior's range.
        """
        try:
            if self._dense is not None:
                return self._by_units(change, prior, noise)
            return self._by_matching(change, prior, number)
        except PlanError:  # a change of zeros
            middle = 0.5 * (prior.low + prior.high)
            return Candidates(middle[None], np.zeros(1), 0)

    def _by_units(self, change: np.ndarray, prior: Prior, noise: float) -> Candidates:
        assert self._dense is not None
        weight, bias = (change[s.offset : s.offset + s.size].reshape(s.shape) for s in self._dense)
        if self._dense[0].shape[0] != self.features:
            weight = weight.T
        signals = self._signals

        def moved(example: np.ndarray) -> np.ndarray:
            assert signals is not None
            return np.asarray(signals(self.params, np.asarray(example, np.float32)), np.float64)

        return read_first_layer(weight, bias, prior, noise=noise, signals=moved if signals else None)

    def _by_matching(self, change: np.ndarray, prior: Prior, number: int) -> Candidates:
        assert self._of_soft is not None
        last, label = self.plan.layout.slots[-1], None
        if last.shape == (self._classes,):
            by_class = change[last.offset :]
            label = infer_label(by_class)
            if label is None and by_class.min() < 0.0:  # among several examples, the class that stands out
                label = int(by_class.argmin())
        key = of_client(of_round(self._root, number), NOBODY, Purpose.CANARY)
        images, losses = match_gradients(
            self._of_soft, change, self.shape, self._classes, key=key, label=label, restarts=_RESTARTS
        )
        flat = np.clip(images.reshape(len(images), -1), prior.low.min(), prior.high.max())
        return Candidates(flat.astype(np.float64), -losses.astype(np.float64), 0)

    def _encoded(self, vector: jax.Array, key: jax.Array) -> jax.Array:
        """A vector of one client as the server decodes it."""
        bound, auxiliaries = self.plan.bound, [1.0] + [0.0] * (len(self.plan.auxiliaries) - 1)
        shared = of_client(self._root, NOBODY, Purpose.SHARED)
        message = bound.encode(Message(vector, jnp.array(auxiliaries, jnp.float32)), key, shared)
        return bound.decode(message, shared).vector

    def _bias_gradients(self, params: Tree, example: jax.Array) -> jax.Array:
        """The first layer's bias gradient of an example `[features]` under each label: `[classes, units]`."""
        assert self._dense is not None
        slot = self._dense[1]
        gradient = self._of_soft_at(params)

        def of_label(soft: jax.Array) -> jax.Array:
            return gradient(example.reshape(self.shape), soft)[slot.offset : slot.offset + slot.size]

        return jax.vmap(of_label)(jnp.eye(self._classes))

    def _count_classes(self, examples: np.ndarray) -> int:
        """How many classes there are, where the loss is the cross-entropy of logits; else 0."""
        task, batch = self.plan.task, self._first_of(0)
        logits = interruptible_jit(lambda params, x: task.model.apply(params, x, None))(
            self.params, examples[:1]
        )
        if getattr(logits, "ndim", 0) != 2:
            return 0
        value, _ = task.loss(logits, batch)
        entropies = -np.asarray(jax.nn.log_softmax(logits))[0]
        return logits.shape[1] if np.isclose(float(value[0]), entropies, rtol=1e-4).any() else 0

    def _of_soft_at(self, params: Tree) -> Callable[[jax.Array, jax.Array], jax.Array]:
        plan = self.plan

        def gradient_of(x: jax.Array, soft: jax.Array) -> jax.Array:
            def loss(weights: Tree) -> jax.Array:
                logits = plan.task.model.apply(weights, x[None], None)[0]
                return -jnp.vdot(soft, jax.nn.log_softmax(logits))

            return plan.layout.flatten(jax.grad(loss)(params))

        return gradient_of


def shown_as_sent(plan: Plan) -> Plan:
    """The plan with a server that adds the mean change to the model as it is.

    A server's optimiser hides nothing from the server, which runs it: what it sees of a round is the mean change.
    """
    return replace(plan, server=fedavg())
