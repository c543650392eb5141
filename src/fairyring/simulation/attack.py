"""Reading examples off updates: one in the clear, and what a plan releases of a round, beside a guess without any update.

Everything starts from a plan's first model. Each attempt is a round of its own from there, with a cohort of its own and
fresh noise, counted in a ledger in memory: an audit spends nothing of a run's budget, for nobody but its maker sees it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.errors import PlanError
from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root
from fairyring.learning.plan import Plan
from fairyring.population import Population
from fairyring.privacy.reconstruction import (
    Comparison,
    blind,
    find_dense,
    infer_label,
    invert_dense,
    match_gradient,
    not_better_than_blind,
    score,
)
from fairyring.simulation.assembly import Trial

Tree = Any
_MOST = 2000  # examples a reconstruction is compared with, and that the blind guess is the mean of


@dataclass(frozen=True)
class Reconstruction:
    """What attacks made of updates.

    Attributes:
        attack: which, in words.
        truth: the examples that were sought, as the model sees them, `[n, ...]`.
        bare: what one bare update of one step gave, `[n, ...]`.
        protected: what the release of a round with that client gave, `[n, ...]`.
        blind: the mean of the population's examples, `[n, ...]`.
        error: median mean squared error of each.
        of_bare, of_protected: beside the blind guess.
    """

    attack: str
    truth: np.ndarray
    bare: np.ndarray
    protected: np.ndarray
    blind: np.ndarray
    error: dict[str, float]
    of_bare: Comparison
    of_protected: Comparison

    @property
    def statement(self) -> str:
        """In words."""
        return (
            f"One update of one example, in the clear: {_lower(self.of_bare.statement)} What this plan releases of a round: "
            f"{_lower(self.of_protected.statement)}"
        )


def reconstruct(plan: Plan, population: Population, *, seed: int = 0, targets: int = 6) -> Reconstruction:
    """Try to read examples of a population off updates, in the clear and as a plan sends them.

    A model whose first layer is dense with a bias gives its input away exactly; of any other, an example is sought whose
    gradient is the one that was seen. Both attacks are made on one client's step on one example, and on the change
    of the model that a whole round makes, with all that the plan does to updates.

    Args:
        plan: of a task of classes; any task, where the first layer is dense.
        population: whose examples are sought.
        seed: of cohorts, the first model and the attack's starts.
        targets: how many examples.

    Raises:
        PlanError: the task's inputs are no real numbers, or there is no attack for it.
    """
    with Trial(plan, population, seed=seed) as trial:
        return _reconstruct(trial, plan, population, seed, targets)


def _reconstruct(trial: Trial, plan: Plan, population: Population, seed: int, targets: int) -> Reconstruction:
    params = trial.state.params
    attack = _Attack(plan, population, params, seed)
    found: dict[str, list[np.ndarray]] = {"truth": [], "bare": [], "protected": [], "blind": []}
    errors: dict[str, list[float]] = {"bare": [], "protected": [], "blind": [], "bare_blind": []}
    guess = blind(attack.prepared(np.arange(len(population))))
    for number in range(1, targets + 1):
        draw, after = trial.round(number)
        clients = np.asarray(draw.staying)
        if not len(clients):
            raise PlanError(
                "audit",
                given="a round without clients",
                expected="some",
                do="Use a larger cohort or less dropout.",
            )
        client = int(clients[number % len(clients)])
        truth = attack.prepared(np.array([client]))[0]
        truths = attack.prepared(clients)
        bare = attack.on_gradient(attack.gradient(client), number)
        change = jax.tree.map(lambda new, old: np.asarray(old) - np.asarray(new), after.params, params)
        protected = attack.on_gradient(change, number)
        for name, image in (("truth", truth), ("bare", bare), ("protected", protected), ("blind", guess)):
            found[name].append(np.asarray(image, np.float32))
        errors["bare"].append(score(bare, truth)["mse"])
        errors["bare_blind"].append(score(guess, truth)["mse"])
        errors["protected"].append(score(protected, truths)["mse"])
        errors["blind"].append(score(guess, truths)["mse"])
    return Reconstruction(
        attack.name,
        **{name: np.stack(images) for name, images in found.items()},
        error={name: float(np.median(values)) for name, values in errors.items() if name != "bare_blind"},
        of_bare=not_better_than_blind(errors["bare"], errors["bare_blind"]),
        of_protected=not_better_than_blind(errors["protected"], errors["blind"]),
    )


class _Attack:
    """The attack that fits a plan's model."""

    def __init__(self, plan: Plan, population: Population, params: Tree, seed: int) -> None:
        self.plan, self.population, self.params = plan, population, params
        self.root = root(seed)
        first = self.prepared(np.arange(min(len(population), 8)))
        if not np.issubdtype(first.dtype, np.floating):
            raise PlanError(
                "audit",
                given=f"inputs of {first.dtype}",
                expected="real numbers, such as pixels: letters and words are not sought by these attacks",
                do="Audit with canaries alone.",
            )
        self.shape = first.shape[1:]
        self.low, self.high = float(first.min()), float(first.max())
        self.dense = find_dense(plan.layout, int(np.prod(self.shape)))
        self.name = "exact inversion of the first dense layer" if self.dense else "gradient matching"
        self.classes, self.of_soft = 0, None
        if not self.dense:
            self.classes = self._classes(first)
            self.of_soft = self._soft_gradient()

    def prepared(self, clients: np.ndarray) -> np.ndarray:
        """Examples of clients as the model sees them: `[n, ...]`, at most a few thousand."""
        task = self.plan.task
        rows, _ = self.population.gather(clients[:_MOST])
        return np.asarray(task.prepare(jnp.asarray(rows[task.inputs][:_MOST])))

    def gradient(self, client: int) -> Tree:
        """The gradient of the loss of a client's first example."""
        task = self.plan.task
        rows, _ = self.population.gather(np.array([client]))
        batch = {name: jnp.asarray(column[:1]) for name, column in rows.items()}

        def loss(params: Tree) -> jax.Array:
            value, _ = task.loss(task.forward(params, batch, None), batch)
            return value.sum()

        return jax.grad(loss)(self.params)

    def on_gradient(self, gradient: Tree, number: int) -> np.ndarray:
        """What a gradient, or what is as good as one, gives away: `[...]`; the middle of the range if nothing."""
        vector = np.asarray(self.plan.layout.flatten(gradient))
        try:
            if self.dense:
                weight, bias = (
                    vector[slot.offset : slot.offset + slot.size].reshape(slot.shape) for slot in self.dense
                )
                inputs_first = self.dense[0].shape[0] == int(np.prod(self.shape))
                image = invert_dense(weight, bias, inputs_first=inputs_first).reshape(self.shape)
            else:
                assert self.of_soft is not None
                last = self.plan.layout.slots[-1]
                is_bias = last.shape == (self.classes,)
                key = of_client(of_round(self.root, number), NOBODY, Purpose.CANARY)
                image = match_gradient(
                    self.of_soft,
                    vector,
                    self.shape,
                    self.classes,
                    key=key,
                    label=infer_label(vector[last.offset :]) if is_bias else None,
                )
        except PlanError:  # an update of zeros: nothing can be read off it
            image = np.full(self.shape, (self.low + self.high) / 2)
        return np.clip(image, self.low, self.high)

    def _classes(self, examples: np.ndarray) -> int:
        """How many classes there are; the loss must be the cross-entropy of logits, which gradient matching assumes."""
        task, client = self.plan.task, np.array([0])
        logits = task.model.apply(self.params, jnp.asarray(examples[:1]), None)
        if getattr(logits, "ndim", 0) == 2:
            rows, _ = self.population.gather(client)
            batch = {name: jnp.asarray(column[:1]) for name, column in rows.items()}
            value, _ = task.loss(logits, batch)
            if np.isclose(float(value[0]), -np.asarray(jax.nn.log_softmax(logits))[0], rtol=1e-4).any():
                return logits.shape[1]
        raise PlanError(
            "audit",
            given=f"a task {task.name!r} whose model has no dense first layer",
            expected="a classification, whose loss gradient matching knows",
            do="Audit with canaries alone.",
        )

    def _soft_gradient(self) -> Callable[[jax.Array, jax.Array], jax.Array]:
        plan, params = self.plan, self.params

        def gradient_of(x: jax.Array, soft: jax.Array) -> jax.Array:
            def loss(weights: Tree) -> jax.Array:
                logits = plan.task.model.apply(weights, x[None], None)[0]
                return -jnp.vdot(soft, jax.nn.log_softmax(logits))

            return plan.layout.flatten(jax.grad(loss)(params))

        return gradient_of


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
