"""A plan's document read back: typed, and refused with the reason where it is another's or was changed."""

import inspect
import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
import optax

from fairyring.core.errors import PlanError
from fairyring.learning.describe import UNREAD
from fairyring.learning.document import ALGORITHMS, COHORTS, COMBINES, CUSTOM, STAGES, VERSION, Makers, Named

Real = float | Literal["inf"]
Kind = TypeVar("Kind", bound="Document")


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a document: nothing else may be in it."""


class Parameter(_Part):
    """One array of a model."""

    name: str
    shape: list[int]
    dtype: str


class MetricPart(_Part):
    """A metric, and the largest value it can have."""

    name: str
    bound: Real


class TaskPart(_Part):
    """What is learned."""

    name: str
    inputs: str
    columns: list[str]
    optional: list[str]
    loss_bound: Real
    metrics: list[MetricPart]
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
    """What follows of a plan's secure sum."""

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
    secure_sum: SecureSum | None
    protection: dict[str, Any] | None
    bytes_up: int
    bytes_down: int


def read(value: Any, kind: type[Kind]) -> Kind:
    """A document from plain values, as they come of JSON.

    Args:
        value: the plain values.
        kind: `Document`, or `Described` where what follows from it stands beside it.

    Raises:
        PlanError: it is of another version, a field or a name in it is unknown, or one is missing.
    """
    version = value.get("fairyring", 1) if isinstance(value, Mapping) else None
    if version != VERSION:
        raise PlanError(
            "a plan's document",
            given=f"one of version {version}" if version is not None else type(value).__name__,
            expected=f"version {VERSION}",
            do="Read it with the version of fairyring that wrote it.",
        )
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise PlanError(
            "a plan's document", given=str(error), expected="the fields of version 3 alone", do=_CHANGED
        ) from None
    for stage in (*found.aggregation, *(found.local.examples or ())):
        _check("a stage", stage, STAGES, {"name", "program"})
    _check("the cohort", found.cohort, COHORTS, set())
    _check("what is combined", found.combine, COMBINES, set())
    _check("the algorithm", found.algorithm, ALGORITHMS, {"name", "program"})
    inner: Any = found.algorithm
    while isinstance(inner, dict) and "adaptive_clip" in inner:
        inner = inner["adaptive_clip"].get("algorithm")
        _check("the algorithm", inner, ALGORITHMS, {"name", "program"})
    for optimizer in (found.local.optimizer, found.server):
        _check_optimizer(optimizer)
    return found


_CHANGED = "Take it as it was written; one that was changed says nothing of the plan."


def _check_optimizer(value: Any) -> None:
    chained = value.get("chain") if isinstance(value, dict) else None
    if (
        isinstance(chained, dict)
        and chained.keys() == {"transforms"}
        and isinstance(chained["transforms"], list)
    ):
        for one in chained["transforms"]:
            _check_optimizer(one)
        return
    names = value if isinstance(value, dict) else ()
    makers = {name: getattr(optax, name) for name in names if name != UNREAD and hasattr(optax, name)}
    _check("an optimiser", value, makers, {"by_round", "reads", "program"}, whole=False)


def _check(what: str, value: Any, makers: Makers, custom: set[str], *, whole: bool = True) -> None:
    """Raise `PlanError` unless `value` is one name, with settings of what makes it; all of them where it is `whole`."""
    names = list(value) if isinstance(value, dict) else []
    if len(names) == 1 and isinstance(value[names[0]], dict):
        given = set(value[names[0]])
        if names[0] == CUSTOM and custom:
            known, needed = custom, custom
        elif names[0] in makers:
            known = set(inspect.signature(makers[names[0]]).parameters)
            needed = known if whole else set()
        else:
            known, needed = set(), {""}
        if needed <= given <= known:
            return
    raise PlanError(
        f"a plan's document, {what}",
        given=json.dumps(value)[:100],
        expected="a name that is known, with its own settings",
        do=_CHANGED,
    )
