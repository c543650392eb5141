"""The plan: everything about a training run that is decided before any data is seen."""

import copy
import math
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from fairyring.aggregation import chain, complete, weight_by_examples
from fairyring.aggregation.contract import Auxiliary, BoundStage, Message, MessageSpec, Stage
from fairyring.core.errors import PlanError, PrivacyWarning, refuse_unknown
from fairyring.core.keys import key_shape
from fairyring.core.noise import Noise, NoiseRequest
from fairyring.core.program import kept
from fairyring.core.vector import Layout
from fairyring.learning import document as documents
from fairyring.learning import example_protection
from fairyring.learning.algorithm import Algorithm
from fairyring.learning.algorithms import averaging
from fairyring.learning.code import Columns, of_examples, of_init
from fairyring.learning.cohort import Cohort, Poisson, as_cohort
from fairyring.learning.combine import Combine
from fairyring.learning.combine import sum as combine_sum
from fairyring.learning.importance import with_importance
from fairyring.learning.local import LocalTraining
from fairyring.learning.measured import Measured
from fairyring.learning.optimizers import check_optimizer, fedavg
from fairyring.learning.protection import Protection, check_parts, honest_of, keep, minimum_cohort_with
from fairyring.learning.rehearsal import RehearsalClient
from fairyring.learning.server import ServerState, first_state
from fairyring.privacy.budget import Budget
from fairyring.privacy.cautions import cautions
from fairyring.secagg import MINIMUM_COHORT, MINIMUM_HONEST, Terms, Traffic, adversaries_in, traffic
from fairyring.task import Task

if TYPE_CHECKING:
    from fairyring.learning.program import Program

Tree = Any


@dataclass(frozen=True, repr=False)
class Plan:
    """A federated training run: what is learned, how clients train, what travels, and how the server uses it.

    Args:
        task: what is learned.
        local: what a client does with its examples in a round.
        cohort: the number of clients in a round, or a cohort sampler such as `cohort.poisson(0.01, maximum=200)`.
        aggregation: the stages that an update goes through; by default the mean weighted by examples. A chain without
            a weighting stage counts every client once.
        server: any optax optimiser. Its gradient is minus the mean delta.
        algorithm: an algorithm such as `fedprox(0.01)`, `scaffold()` or `fednova()`; by default plain averaging.
        combine: what the server sees of a cohort's updates; only `combine.sum()` so far.
        privacy: what is promised to every device. It needs a noise stage in `aggregation`, and calibrates its noise. A budget with
            the unit `"example"` promises it to every example, and needs the noise stage in `local.examples` instead.

    Raises:
        PlanError: a field is unknown or of the wrong type, or the parts do not fit together.

    Warns:
        PrivacyWarning: delta is not below one over the number of devices in a single round, with a budget for every device and a
            cohort that is not Poisson. `simulate` knows the number of all devices, and judges by that.
    """

    task: Task
    local: LocalTraining
    cohort: int | Cohort
    aggregation: Stage = field(default_factory=lambda: chain(weight_by_examples()))
    server: optax.GradientTransformation = field(default_factory=fedavg)
    algorithm: Algorithm = field(default_factory=averaging)
    privacy: Budget | None = None
    combine: Combine = field(default_factory=combine_sum)

    def __new__(cls, *args: object, **values: object) -> "Plan":
        refuse_unknown("Plan", values, cls.__dataclass_fields__)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        kinds = {
            "task": (Task, "a task, such as fr.classification(model)"),
            "local": (LocalTraining, "fr.LocalTraining(...)"),
            "aggregation": (Stage, "a stage, such as fr.chain(fr.clip(1.0))"),
            "server": (optax.GradientTransformation, "an optax optimiser, such as optax.sgd(1.0)"),
            "algorithm": (Algorithm, "an algorithm, such as fr.fedprox(0.01)"),
            "combine": (Combine, "fr.combine.sum()"),
            "privacy": (Budget | None, "a budget, such as fr.Budget(epsilon=8.0, delta=1e-6, rounds=100)"),
        }
        for name, (kind, expected) in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise PlanError(
                    f"Plan {name}",
                    given=repr(value)[:80],
                    expected=expected,
                    do=f"Give {name}= one of those.",
                )
        object.__setattr__(self, "cohort", as_cohort(self.cohort))
        object.__setattr__(self, "task", with_importance(self.task, self.local.importance))
        example_protection.check_parts(self.local, self.aggregation, self.privacy)
        if self.local.examples is None:
            check_parts(self.aggregation, self.privacy)
        check_optimizer("LocalTraining optimizer", self.local.optimizer_of(1), self.params_shape)
        check_optimizer("Plan server", self.server, self.params_shape)
        self._check_clip()
        self._check_combine()
        _ = self.bound  # refuses a chain that cannot work here, not in round one
        self._terms(bytes(32))
        by_device = self.privacy is not None and self.privacy.unit == "device"
        if self.privacy is not None and by_device and not isinstance(self.rule, Poisson):
            for caution in cautions(delta=self.privacy.delta, clients=self.rule.maximum):
                warnings.warn(caution, PrivacyWarning, stacklevel=3)

    def __repr__(self) -> str:
        local = self.local
        number, what = (local.epochs, "epoch") if local.steps is None else (local.steps, "step")
        budget = f", within epsilon {self.privacy.epsilon:g}" if self.privacy is not None else ""
        return (
            f"<Plan: {self.task.name} with {self.layout.size:,} parameters, {self.rule}, {number} {what}{'s' * (number != 1)} in batches of "
            f"{local.batch_size}, {self.algorithm.name}, {self.aggregation!r}{budget}>"
        )

    def _check_clip(self) -> None:
        """Raise `PlanError` if updates travel in units of a clip norm and no stage clips them to 1."""
        parts = self.aggregation.singles
        if self.algorithm.in_clips and not any(part.clips_to == 1.0 for part in parts):
            raise PlanError(
                self.algorithm.name,
                given=f"the stages {', '.join(map(repr, parts))}",
                expected="clip(1.0) among them: updates travel in units of the adaptive clip norm",
                do="Use fr.chain(fr.clip(1.0), ...).",
            )

    def _check_combine(self) -> None:
        """Raise `PlanError` unless the server sees a sum: stages and server halves work on nothing else."""
        if self.combine.sees != "sum":
            raise PlanError(
                "Plan combine",
                given=f"a rule that sees {self.combine.sees}"
                + (", under masks" if self.aggregation.masking is not None else ""),
                expected="fr.combine.sum(): nothing else is available yet, and masks and noise show nothing else",
                do="Leave combine= out.",
            )

    @property
    def rule(self) -> Cohort:
        """The cohort sampler."""
        return as_cohort(self.cohort)

    @cached_property
    def params_shape(self) -> Tree:
        """The model's parameters as shapes and dtypes."""
        return kept(self.task, "params_shape", lambda: jax.eval_shape(self.task.model.init, key_shape()))

    @cached_property
    def layout(self) -> Layout:
        """The layout of the model's parameters in a flat vector."""
        return Layout.of(self.params_shape)

    @cached_property
    def update_layout(self) -> Layout:
        """The layout of a client's update: for most algorithms that of the parameters.

        Raises:
            PlanError: the algorithm reads columns, and does not give the shapes of its update.
        """

        algorithm = self.algorithm

        def rehearsed(params: Tree) -> Tree:
            client = RehearsalClient(self.local.optimizer_of(1), [params])
            states = algorithm.server_state(params), algorithm.client_state(params)
            return algorithm.device(client, params, *states).update

        return Layout.of(jax.eval_shape(algorithm.update or rehearsed, self.params_shape))

    @property
    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        """What travels with an update, before the first stage.

        That is the number of examples, the loss and each metric (see `Measured.coordinates`), and the algorithm's own scalars.
        """
        return (Auxiliary("weight", math.inf), *self.measured.coordinates, *self.algorithm.auxiliary)

    @cached_property
    def measured(self) -> Measured:
        """The loss and the metrics of training, and how they travel."""
        return Measured.of(self.task)

    @cached_property
    def bound(self) -> BoundStage:
        """The stages, bound to this plan's update, with the noise that its budget needs."""
        return self._calibrated[1]

    @property
    def measures_norms(self) -> bool:
        """Whether a simulation records how many updates were clipped. It does not where the plan promises privacy or ends in a secure
        sum: there the norm of one client's update is what nobody may learn."""
        return (
            self.privacy is None and self.bound.spec.masking is None and self.bound.relative_norm is not None
        )

    @property
    def clip(self) -> Stage | None:
        """The clip whose effect is recorded: the first `fr.clip` of the aggregation."""
        return next((part for part in self.aggregation.singles if part.kind == "clip"), None)

    @cached_property
    def protection(self) -> Protection | None:
        """What is promised, and the noise that keeps it; None without a budget."""
        return self._calibrated[0]

    @property
    def example_stages(self) -> BoundStage | None:
        """The stages of each example's gradient, bound, with the noise of every local step; None where local steps have no noise."""
        return self._calibrated[2]

    @property
    def noise(self) -> Noise | None:
        """The noise that the promise rests on, in each round's sum or in each local step; None without a budget."""
        return (self.example_stages or self.bound).spec.noise

    @property
    def noise_request(self) -> NoiseRequest | None:
        """The noise stage as it was given, before calibration by the budget; None without one."""
        return (self.local.examples or self.aggregation).noise

    @property
    def secret_rate(self) -> float | None:
        """The rate of a Poisson cohort, if its size is a secret that the promise to devices rests on; None otherwise."""
        by_device = self.privacy is not None and self.privacy.unit == "device"
        return self.rule.rate if by_device and isinstance(self.rule, Poisson) else None

    @cached_property
    def _calibrated(self) -> tuple[Protection | None, BoundStage, BoundStage | None]:
        honest = self._minimum_cohort[1]
        spec = MessageSpec(self.update_layout.size, self.rule.maximum, self.auxiliaries, honest=honest)
        stage = complete(self.aggregation)
        if self.privacy is None:
            return None, stage.bind(spec), None
        if self.privacy.unit == "example":
            bound = stage.bind(spec)
            example_protection.check_weights(bound)
            auxiliaries = self.auxiliaries[: 1 + len(self.measured.coordinates)]
            protection, stages = example_protection.keep(
                self.privacy, self.local, self.rule, self.layout.size, auxiliaries
            )
            return protection, bound, stages
        return *keep(self.privacy, stage, spec, self.rule), None

    @cached_property
    def message_shape(self) -> Message:
        """One client's encoded message as shapes and dtypes."""

        def encoded(key: jax.Array) -> Message:
            message = Message(jnp.zeros(self.update_layout.size), jnp.zeros(len(self.auxiliaries)))
            return self.bound.encode(message, key, key)

        return jax.eval_shape(encoded, key_shape())

    @cached_property
    def terms(self) -> Terms | None:
        """What clients and server agree on for this plan's secure sums; None without a secure sum.

        The terms name the plan by its digest without columns, because no device knows another's columns. That digest leaves out the code
        that reads examples: the model's `apply`, the loss and the metrics. The history of a run names these, and devices sign it.
        """
        return self._terms(bytes.fromhex(self.digest())) if self.bound.spec.masking else None

    def _terms(self, plan: bytes) -> Terms | None:
        spec, maximum = self.bound.spec, self.rule.maximum
        masking = spec.masking
        if masking is None or spec.modulus_bits is None:
            return None
        if maximum < MINIMUM_COHORT:
            raise PlanError(
                "secure_sum",
                given=f"a cohort of {maximum}",
                expected=f"at least {MINIMUM_COHORT} clients: from a sum of two, each learns the other's update",
                do=f"Set cohort={MINIMUM_COHORT} or more.",
            )
        minimum_cohort, rate = self._minimum_cohort[0], masking.adversarial_rate
        if maximum >= minimum_cohort and honest_of(minimum_cohort, maximum, rate) < MINIMUM_HONEST:
            least = minimum_cohort_with(MINIMUM_HONEST, rate, maximum)
            raise PlanError(
                "secure_sum",
                given=f"a sum of {minimum_cohort} clients, {adversaries_in(maximum, rate)} of a session's {maximum} adversaries",
                expected=f"at least {MINIMUM_HONEST} honest clients in a sum: if only one is honest, the others learn its update",
                do=(f"Set minimum_cohort={least} or more, or a" if least <= maximum else "A")
                + " smaller adversarial_rate, if that is true of the clients.",
            )
        return Terms(
            plan,
            spec.dimension,
            spec.modulus_bits,
            minimum_cohort,
            maximum,
            masking.threat,  # pyright: ignore[reportArgumentType] `Terms` checks it
            float(masking.adversarial_rate),
            float(masking.dropout_rate),
        )

    @cached_property
    def _minimum_cohort(self) -> tuple[int, int]:
        """The fewest clients whose secure sum is released, and how many of those are honest; 1 and 1 without a secure sum."""
        masking, noise, maximum = self.aggregation.masking, self.aggregation.noise, self.rule.maximum
        if masking is None:
            return 1, 1
        rate, minimum_cohort = masking.adversarial_rate, masking.minimum_cohort
        if minimum_cohort is None:
            default = max(MINIMUM_COHORT, maximum // (4 if isinstance(self.rule, Poisson) else 2))
            minimum_cohort = max(default, minimum_cohort_with(MINIMUM_HONEST, rate, maximum))
        if noise is not None and noise.shares and not noise.top_up:
            minimum_cohort = max(minimum_cohort, minimum_cohort_with(noise.shares, rate, maximum))
        return minimum_cohort, max(1, honest_of(minimum_cohort, maximum, rate))

    @cached_property
    def minimum_cohort(self) -> int:
        """The fewest reports for which a round changes the model: 1, or the minimum cohort of a secure sum."""
        terms = self._terms(bytes(32))
        return terms.minimum_cohort if terms else 1

    @cached_property
    def traffic(self) -> Traffic:
        """The most bytes that one client sends and receives in a secure sum of the largest cohort; 0 without a secure sum."""
        terms = self._terms(bytes(32))
        return traffic(terms, terms.maximum_cohort) if terms else Traffic(0, 0)

    @property
    def bytes_up(self) -> int:
        """The most bytes that one client sends in a round."""
        return self.traffic.up or self.bound.spec.bytes

    @cached_property
    def bytes_down(self) -> int:
        """The most bytes that one client receives in a round: the model, the algorithm's server state, and secure sum messages."""
        state = jax.eval_shape(self.algorithm.server_state, self.params_shape)
        numbers = self.layout.size + sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))
        return 4 * numbers + self.traffic.down

    def first_state(self, key: jax.Array, params: Tree | None = None) -> ServerState:
        """The server's state before the first round: of a model initialised with `key`, or of `params` if they are given."""
        params = self.task.model.init(key) if params is None else jax.tree.map(jnp.asarray, params)
        return first_state(params, self.server, self.algorithm)

    def program(self, columns: Columns, examples: int) -> "Program":
        """The device half as an exported program: see `fairyring.learning.program.program`."""
        from fairyring.learning.program import program

        return program(self, columns, examples)

    def describe(self) -> dict[str, Any]:
        """The plan's document, and what follows from it: for people, and for the run folder.

        What follows is the number of parameters, for the loss and each metric whether a larger value is the better one, what a
        secure sum and a budget promise (None without one), and the most bytes that one client sends and receives in a round.
        """
        return {
            **self.document(),
            "higher_is_better": self.task.higher_is_better,
            "parameters": self.layout.size,
            "secure_sum": self._secure_sum(),
            "protection": self.protection.describe() if self.protection else None,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
        }

    def _secure_sum(self) -> dict[str, Any] | None:
        """What a secure sum promises, for people; None without a secure sum."""
        terms = self._terms(bytes(32))
        if terms is None:
            return None
        degree, threshold = terms.graph(terms.maximum_cohort)
        return {
            "says": terms.says(),
            "modulus_bits": terms.modulus_bits,
            "threat": terms.threat,
            "adversarial_rate": terms.adversarial_rate,
            "dropout_rate": terms.dropout_rate,
            "minimum_cohort": terms.minimum_cohort,
            "degree": degree,
            "threshold": threshold,
        }

    def document(self) -> dict[str, Any]:
        """The plan as a document: nested plain values that name every stage, optimiser, cohort sampler and number.

        `fairyring.learning.document` describes its form. Plans that differ in a name or a number have different documents. Code
        (a model, a loss) is not in it, except for custom parts, which are `custom` and given by the digest of their program.
        """
        return copy.deepcopy(self._document)

    @cached_property
    def _document(self) -> dict[str, Any]:
        return documents.document(self)

    def code(self, columns: Columns | None = None) -> dict[str, Any]:
        """The code in the plan: the digest of each program, and the columns it was made for; see `digest`."""
        code_of_init = {"init": of_init(self.task)}
        code = documents.code_of(code_of_init, {})
        if columns is not None:
            code = documents.code_of({**code_of_init, **of_examples(self, columns)}, columns)
        return code

    def digest(self, columns: Columns | None = None) -> str:
        """SHA-256 of what the plan computes, its document and its code: 64 hexadecimal digits.

        The code is the initialisation of the model, the model itself, the loss, each metric, and an algorithm that reads columns.
        Each enters as a program: StableHLO for a CPU and for batches of `batch_size`, whatever machine the plan will run on. So
        the digest depends on

        - the document;
        - this code, and the numbers that it closes over;
        - the shapes and dtypes of the columns;
        - the settings of JAX that change numbers (64 bits, the kind of random keys);
        - the versions of JAX and of the libraries that the model is made with, where they lower a program differently.

        The document, with everything that it names, does not depend on those versions, unless a part is `custom`. But the
        noise of a budget depends on the version of the accountant. Python code that a program calls back is not seen, and neither is
        what a pooled metric computes from its sums. The names of
        functions, the location of their source and the machine do not matter.

        Args:
            columns: name -> (shape of a row, dtype) of each column that the task reads: `plan.task.columns_of(population)`. Without
                them, all code that reads examples is left out. Then two plans that differ only in the code of the model's `apply`, of
                the loss or of a metric have the same digest.
        """
        return documents.digest(self._document, self.code(columns))
