"""Reading a plan's document: into types, with the reason if it has another version or was changed."""

import inspect
import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from fairyring.core.errors import PlanError
from fairyring.learning.describe import UNREAD, maker_of
from fairyring.learning.document import ALGORITHMS, COHORTS, COMBINES, CUSTOM, STAGES, VERSION, Makers, Named

Real = float | Literal["inf"]
Kind = TypeVar("Kind", bound="Document")


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a document. Unknown fields are refused."""


class Parameter(_Part):
    """One parameter array of a model."""

    name: str
    shape: list[int]
    dtype: str


class MetricPart(_Part):
    """A metric, its largest possible value, and its largest weight if it has weights of its own."""

    name: str
    bound: Real
    weight_bound: Real | None = None


class PooledPart(_Part):
    """A metric of evaluations, and whether it is a table."""

    name: str
    table: bool


class TaskPart(_Part, kw_only=True):
    """What is learned."""

    name: str
    inputs: str
    columns: list[str]
    optional: list[str]
    loss_bound: Real
    loss_weight_bound: Real | None = None
    metrics: list[MetricPart]
    pooled: list[PooledPart] = []
    parameters: list[Parameter]


class LocalPart(_Part):
    """What a client does in a round."""

    optimizer: Named
    epochs: int | None
    steps: int | None
    batch_size: int
    shuffle: bool
    examples: list[Named] | None
    rate: float | None
    importance: str | None = None


class NoisePart(_Part):
    """The noise that keeps a promise."""

    mechanism: str
    multiplier: float
    bands: int
    shares: int


class PrivacyPart(_Part):
    """What is promised."""

    epsilon: Real
    delta: float
    rounds: int | None
    population: int | None
    unit: Literal["device", "example"]
    noise: NoisePart


class Document(_Part, kw_only=True):
    """A plan's document, read back."""

    fairyring: int
    task: TaskPart
    local: LocalPart
    cohort: Named
    aggregation: list[Named]
    combine: Named
    server: Named
    algorithm: Named
    privacy: PrivacyPart | None


class SecureSum(_Part):
    """What follows from a plan's secure sum."""

    says: str
    modulus_bits: int
    threat: str
    adversarial_rate: float
    dropout_rate: float
    minimum_cohort: int
    degree: int
    threshold: int


class Described(Document, kw_only=True):
    """A run's plan.json: a document, and what follows from it."""

    parameters: int
    higher_is_better: dict[str, bool] = msgspec.field(default_factory=dict)
    secure_sum: SecureSum | None
    protection: dict[str, Any] | None
    bytes_up: int
    bytes_down: int


def read(value: Any, kind: type[Kind]) -> Kind:
    """A document from plain values, as JSON gives them.

    Args:
        value: the plain values.
        kind: `Document`; or `Described`, if the values also contain what follows from the document.

    Raises:
        PlanError: the version is another one, or a field or a name is unknown, missing or of the wrong type.
    """
    version = value.get("fairyring", 1) if isinstance(value, Mapping) else None
    if version != VERSION:
        raise PlanError(
            "a plan's document",
            given=f"version {version}" if version is not None else type(value).__name__,
            expected=f"version {VERSION}",
            do="Read it with the version of fairyring that wrote it.",
        )
    try:
        document = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise PlanError(
            "a plan's document",
            given=str(error),
            expected=f"exactly the fields of version {VERSION}",
            do=_CHANGED,
        ) from None
    for stage in (*document.aggregation, *(document.local.examples or ())):
        _check("a stage", stage, STAGES, {"name", "program"})
    _check("the cohort", document.cohort, COHORTS, set())
    _check("combine", document.combine, COMBINES, set())
    _check("the algorithm", document.algorithm, ALGORITHMS, {"name", "program"})
    inner: Any = document.algorithm
    while isinstance(inner, dict) and "adaptive_clip" in inner:
        inner = inner["adaptive_clip"].get("algorithm")
        _check("the algorithm", inner, ALGORITHMS, {"name", "program"})
    for optimizer in (document.local.optimizer, document.server):
        _check_optimizer(optimizer)
    return document


_CHANGED = "Use the document as it was written. A changed one does not describe the plan."


def _check_optimizer(value: Any) -> None:
    chained = value.get("chain") if isinstance(value, dict) else None
    if (
        isinstance(chained, dict)
        and chained.keys() == {"transforms"}
        and isinstance(chained["transforms"], list)
    ):
        for transform in chained["transforms"]:
            _check_optimizer(transform)
        return
    names = value if isinstance(value, dict) else ()
    makers = {name: maker for name in names if name != UNREAD and (maker := maker_of(name)) is not None}
    _check("an optimiser", value, makers, {"by_round", "reads", "program"}, complete=False)


def _check(what: str, value: Any, makers: Makers, custom: set[str], *, complete: bool = True) -> None:
    """Raise `PlanError` unless `value` is one known name with settings of its maker: all of them if `complete`, else some."""
    names = list(value) if isinstance(value, dict) else []
    if len(names) == 1 and isinstance(value[names[0]], dict):
        settings = set(value[names[0]])
        if names[0] == CUSTOM and custom:
            known, needed = custom, custom
        elif names[0] in makers:
            known = set(inspect.signature(makers[names[0]]).parameters)
            needed = known if complete else set()
        else:
            known, needed = set(), {""}
        if needed <= settings <= known:
            return
    raise PlanError(
        f"a plan's document, {what}",
        given=json.dumps(value)[:100],
        expected="one known name, with exactly its settings"
        if complete
        else "one known name, with no settings but its own",
        do=_CHANGED,
    )
