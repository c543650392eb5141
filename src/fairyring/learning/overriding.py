"""A plan with some of its fields, and of the numbers within its parts, changed by their paths."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from inspect import signature
from typing import Any, get_args

import msgspec
import numpy as np
import optax

from fairyring.aggregation import chain
from fairyring.aggregation.contract import Stage
from fairyring.core.errors import PlanError, refuse_unknown
from fairyring.learning.algorithm import Algorithm
from fairyring.learning.code import of_optimizer
from fairyring.learning.cohort import Cohort
from fairyring.learning.describe import maker_of, read_optimizer
from fairyring.learning.document import ALGORITHMS, COHORTS, RULES, STAGES, is_made_of
from fairyring.learning.plan import Plan

_STAGE = re.compile(r"(\w+?)(?:\[(\d+)\])?")
_BY_HAND = "Change it in the file: it is code."


def override(plan: Plan, settings: Mapping[str, object]) -> Plan:
    """`plan` with some fields changed: ``{"local.batch_size": "5", "cohort": 20}``.

    Beside the fields of a plan and of its parts, paths lead to the numbers of

    - optimisers: ``local.optimizer.learning_rate``, ``server.b1``. The optimiser has to be one of optax's by name;
    - algorithms: ``algorithm.mu``; ``algorithm.algorithm.mu`` within `adaptive_clip`;
    - stages: ``aggregation.clip.norm``, ``local.examples.clip.norm``; of two stages of one kind, ``aggregation.clip[1].norm`` is the
      second.

    Args:
        plan: the plan to start from; it stays unchanged.
        settings: path -> the new value: the value itself, or as text, where `"none"` stands for None.

    Raises:
        PlanError: a path leads nowhere or to code, the value does not fit, or the plan that results is invalid.
    """
    return _fields(plan, [(path.split("."), value, path) for path, value in settings.items()], plan)


def _fields(owner: Any, changes: list[tuple[list[str], object, str]], plan: Plan) -> Any:
    """`owner`, a dataclass, with what the paths lead to changed, all at once: some values only fit together."""
    new: dict[str, Any] = {}
    refuse_unknown(type(owner).__name__, [path[0] for path, _, _ in changes], [f.name for f in fields(owner)])
    for path, value, whole in changes:
        if len(path) == 1:
            declared = next(f.type for f in fields(owner) if f.name == path[0])
            current: Any = getattr(owner, path[0])
            kind = int if path[0] == "cohort" else declared if _is_plain(declared) else type(current)
            if kind is int and isinstance(value, Cohort):
                kind = Cohort
            new[path[0]] = _converted(value, kind, whole)
    within: dict[str, list[tuple[list[str], object, str]]] = {}
    for path, value, whole in changes:
        if len(path) > 1:
            within.setdefault(path[0], []).append((path[1:], value, whole))
    for name, inner in within.items():
        new[name] = _inner(new.get(name, getattr(owner, name)), inner, plan)
    return replace(owner, **new)


def _inner(current: Any, changes: list[tuple[list[str], object, str]], plan: Plan) -> Any:
    """A part of a plan with what the paths lead to changed."""
    if is_dataclass(current) and not isinstance(current, Algorithm | Stage | Cohort):
        return _fields(current, changes, plan)
    for path, value, whole in changes:
        current = _part(current, path, value, plan, whole)
    return current


def _part(current: Any, path: list[str], value: object, plan: Plan, whole: str) -> Any:
    """A part of a plan that a function makes of its settings, with one of them changed."""
    if isinstance(current, optax.GradientTransformation):
        return _optimizer(current, path, value, plan, whole)
    if isinstance(current, Algorithm):
        return _algorithm(current, path, value, plan, whole)
    if isinstance(current, Stage):
        return _stage(current, path, value, whole)
    if isinstance(current, Cohort):
        return _cohort(current, path, value, plan, whole)
    raise PlanError(
        whole,
        given=f"{'.'.join(path)} of {_kind_of(current)}",
        expected="a field that has fields of its own",
        do=_BY_HAND,
    )


def _cohort(current: Cohort, path: list[str], value: object, plan: Plan, whole: str) -> Cohort:
    """A cohort sampler from its maker, which checks its numbers."""
    settings = dict(vars(current))
    refuse_unknown(type(current).__name__, path[:1], settings)
    if len(path) > 1:
        return _part(settings[path[0]], path[1:], value, plan, whole)  # refuses it
    return _made(COHORTS[RULES[type(current)]], settings, path[0], value, whole)


def _made(
    maker: Callable[..., Any],
    settings: dict[str, Any],
    name: str,
    value: object,
    whole: str,
    kind: Any = None,
) -> Any:
    """What `maker` makes of its settings with one of them changed."""
    changed = _converted(value, kind or _kind(maker, name), whole)
    try:
        return maker(**settings | {name: changed})
    except (TypeError, ValueError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(
            whole, given=repr(value), expected=f"a value that {maker.__name__} takes", do=f"It says: {error}."
        ) from error


def _kind_of(value: Any) -> str:
    return "a function" if callable(value) else type(value).__name__


def _optimizer(
    current: optax.GradientTransformation, path: list[str], value: object, plan: Plan, whole: str
) -> optax.GradientTransformation:
    reading = read_optimizer(current)
    ((name, numbers),) = reading.value.items()
    maker = maker_of(name)
    if not reading.complete or maker is None or name == "chain" or len(path) > 1:
        raise PlanError(
            whole,
            given="an optimiser that has no name here",
            expected="one such as optax.sgd(0.1), whose numbers can be read",
            do=_BY_HAND,
        )
    refuse_unknown(f"optimiser {name}", path, [*signature(maker).parameters])
    if not isinstance(numbers.get(path[0], 0.0), int | float | None):
        raise PlanError(
            whole,
            given=f"{path[0]} as a schedule, or as something else than a number",
            expected="a number",
            do=_BY_HAND,
        )
    same = maker(**numbers)
    if _program(plan, same) != _program(plan, current):
        raise PlanError(
            whole,
            given=f"an optimiser that is not what {name} makes of the numbers {numbers}",
            expected="one that is",
            do=_BY_HAND,
        )
    default = signature(maker).parameters[path[0]].default
    present = numbers.get(path[0], default)
    kind = bool if isinstance(present, bool) else float | None if default is None else float
    changed = value if callable(value) else _converted(value, kind, whole)
    made = _made(maker, numbers, path[0], changed, whole, kind)
    same_numbers = read_optimizer(made).value == reading.value
    if changed != present and same_numbers and _program(plan, made) == _program(plan, current):
        raise PlanError(
            whole,
            given=repr(value),
            expected=f"a number that changes something: {name} does not use {path[0]} here",
            do="Set what it needs first, such as momentum before nesterov.",
        )
    return made


def _program(plan: Plan, optimizer: optax.GradientTransformation) -> str:
    return of_optimizer(plan, lambda _: optimizer)


def _algorithm(current: Algorithm, path: list[str], value: object, plan: Plan, whole: str) -> Algorithm:
    settings = dict(current.settings)
    maker = _maker(ALGORITHMS, current, current.name, settings, whole)
    refuse_unknown(f"algorithm {current.name}", path[:1], settings)
    if len(path) > 1:
        return maker(**settings | {path[0]: _part(settings[path[0]], path[1:], value, plan, whole)})
    return _made(maker, settings, path[0], value, whole)


def _stage(current: Stage, path: list[str], value: object, whole: str) -> Stage:
    parts = list(current.singles)
    found = _STAGE.fullmatch(path[0])
    kind, number = (found[1], found[2]) if found else (path[0], None)
    refuse_unknown(
        whole.rpartition(".")[0], [kind], list(dict.fromkeys(one.kind or one.name for one in parts))
    )
    places = [place for place, one in enumerate(parts) if one.kind == kind]
    if (len(places) != 1 and number is None) or (number is not None and int(number) >= len(places)):
        raise PlanError(
            whole,
            given=f"{len(places)} stages {kind}" if places else f"{kind}, a stage of your own",
            expected=f"which of them, such as {kind}[0]" if places else "a stage by name",
            do=f"Write {kind}[0] for the first." if places else _BY_HAND,
        )
    place = places[int(number or 0)]
    settings = dict(parts[place].settings)
    maker = _maker(STAGES, parts[place], kind, settings, whole)
    if len(path) != 2:
        raise PlanError(whole, given=kind, expected=f"{kind}.NAME", do=f"Name one of {', '.join(settings)}.")
    refuse_unknown(f"stage {kind}", path[1:], settings)
    parts[place] = _made(maker, settings, path[1], value, whole)
    return chain(*parts) if current.chained else parts[0]


def _maker(
    makers: Mapping[str, Callable[..., Any]], part: Any, name: str, settings: dict[str, Any], whole: str
) -> Any:
    """The function that makes a part from its settings. A part that was changed since is code, and would lose the change."""
    maker = makers.get(name)
    own = maker is None or not is_made_of(part, maker, settings.items())
    if own or not settings:
        raise PlanError(
            whole,
            given=f"{name}, of your own" if own else f"{name}, which has no settings",
            expected="a part with settings that can be read",
            do=_BY_HAND,
        )
    return maker


def _kind(maker: Callable[..., Any], argument: str) -> Any:
    """The type of an argument."""
    return signature(maker).parameters[argument].annotation


def _is_plain(kind: Any) -> bool:
    """Whether it is the type of a number, a boolean, a string or None, or a union of such types."""
    plain = (int, float, bool, str, type(None))
    return kind in plain or (bool(get_args(kind)) and set(get_args(kind)) <= set(plain))


def _converted(value: object, kind: Any, whole: str) -> Any:
    """A new value of a field as its type; whole objects, for a field that is code, stay as they are."""
    is_text = isinstance(value, str)
    if not _is_plain(kind):
        if not is_text:
            return value
        raise PlanError(
            whole, given=repr(value), expected="a field that is a number, a boolean or a string", do=_BY_HAND
        )
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        return msgspec.convert(None if value == "none" else plain, kind, strict=not is_text)
    except msgspec.ValidationError as error:
        raise PlanError(whole, given=repr(value), expected=_says(kind), do=f"{error}.") from None


def _says(kind: Any) -> str:
    """A type as it is written."""
    return kind.__name__ if isinstance(kind, type) else str(kind)
