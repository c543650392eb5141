"""The plan as a document: every stage, optimiser, cohort sampler and number by name and value, in one canonical form.

    {"fairyring": 3,
     "task": {"name": "classification", "inputs": "x", "loss_bound": 100.0, ...},
     "local": {"optimizer": {"sgd": {"learning_rate": 0.1}}, "epochs": 1, ...},
     "cohort": {"uniform": {"size": 20}},
     "aggregation": [{"weight_by_examples": {"bound": null}}, {"clip": {"norm": 1.0}}],
     "server": {"sgd": {"learning_rate": 1.0}},
     "algorithm": {"averaging": {}},
     "privacy": null}

The name of a part is that of the function that makes it, and its settings are that function's arguments. A part that this package does
not make is `custom`, and is given by the digest of its program. The version goes up when a name changes its meaning. As bytes, a document
is JSON in UTF-8, with sorted keys and without whitespace. A float is the shortest decimal that reads back as the same float, and infinity
is the text `inf`.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, get_args

import jax
import numpy as np
import optax

from fairyring.aggregation import (
    clip,
    count_sketch,
    quantize,
    random_k,
    rotate,
    secure_sum,
    top_k,
    weight_by_examples,
    weight_uniformly,
)
from fairyring.aggregation.contract import Stage
from fairyring.core.errors import PlanError
from fairyring.learning import cohort as rules
from fairyring.learning import combine
from fairyring.learning.algorithm import Algorithm
from fairyring.learning.algorithms import adaptive_clip, averaging, fednova, fedprox, scaffold
from fairyring.learning.code import Columns, of_algorithm, of_optimizer, of_stages
from fairyring.learning.describe import read_optimizer
from fairyring.privacy.stages import correlated_noise, distributed_noise, gaussian_noise

if TYPE_CHECKING:
    from fairyring.learning.plan import Plan

VERSION = 3
CUSTOM = "custom"

Named = dict[str, dict[str, Any]]
Makers = Mapping[str, Callable[..., Any]]


def _by_name(*makers: Callable[..., Any]) -> Makers:
    return {maker.__name__: maker for maker in makers}


STAGES = _by_name(
    *(weight_by_examples, weight_uniformly, clip, rotate, quantize, top_k, random_k, count_sketch),
    *(gaussian_noise, correlated_noise, distributed_noise, secure_sum),
)
ALGORITHMS = _by_name(averaging, fedprox, scaffold, fednova, adaptive_clip)
COMBINES = _by_name(combine.sum)
COHORTS = _by_name(rules.uniform, rules.poisson, rules.weighted, rules.in_turn, rules.fixed, rules.available)
RULES = {
    rules.Uniform: "uniform",
    rules.Poisson: "poisson",
    rules.Weighted: "weighted",
    rules.InTurn: "in_turn",
    rules.Fixed: "fixed",
    rules.Available: "available",
}


def document(plan: "Plan") -> dict[str, Any]:
    """See `Plan.document`."""
    task, local = plan.task, plan.local
    return {
        "fairyring": VERSION,
        "task": {
            "name": task.name,
            "inputs": task.inputs,
            "columns": list(task.columns),
            "optional": list(task.optional),
            "loss_bound": real(task.loss_bound),
            **_weight_bound("loss_weight_bound", task.loss_weight_bound),
            "metrics": [
                {
                    "name": name,
                    "bound": real(metric.bound),
                    **_weight_bound("weight_bound", metric.weight_bound),
                }
                for name, metric in task.metrics.items()
            ],
            **(
                {"pooled": [{"name": n, "table": m.table} for n, m in task.pooled.items()]}
                if task.pooled
                else {}
            ),
            "parameters": [
                {"name": slot.path, "shape": list(slot.shape), "dtype": str(slot.dtype)}
                for slot in plan.layout.slots
            ],
        },
        "local": {
            "optimizer": _optimizer(plan, local.optimizer),
            "epochs": local.epochs,
            "steps": local.steps,
            "batch_size": local.batch_size,
            "shuffle": bool(local.shuffle),
            "examples": _examples(plan),
            "rate": None if local.rate is None else float(local.rate),
            **({} if local.importance is None else {"importance": local.importance}),
        },
        "cohort": {RULES[type(plan.rule)]: _plain(vars(plan.rule))},
        "aggregation": _stages(
            plan.aggregation, lambda: of_stages(plan.bound, plan.update_layout.size, len(plan.auxiliaries))
        ),
        "combine": {plan.combine.sees: {}},
        "server": _optimizer(plan, plan.server),
        "algorithm": _algorithm(plan.algorithm, lambda: of_algorithm(plan)),
        "privacy": None
        if plan.privacy is None
        else {
            "epsilon": real(plan.privacy.epsilon),
            "delta": float(plan.privacy.delta),
            "rounds": plan.privacy.rounds,
            "population": plan.privacy.population,
            "unit": plan.privacy.unit,
            "noise": _noise(plan),
        },
    }


def _weight_bound(name: str, bound: float | None) -> dict[str, Any]:
    """The bound of weights that are a measure's own; nothing where they are those of the examples."""
    return {} if bound is None else {name: real(bound)}


def _noise(plan: "Plan") -> dict[str, Any]:
    """The noise that keeps the promise, as calibrated. Another version of the accountant may calibrate it differently."""
    assert plan.protection is not None
    release = plan.protection.release
    return {
        "mechanism": release.mechanism,
        "multiplier": float(release.multiplier),
        "bands": release.bands,
        "shares": release.shares,
    }


def canonical(value: Mapping[str, Any]) -> bytes:
    """Plain values as bytes, in the one form in which they are hashed and signed.

    Raises:
        ValueError: a float is not finite.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def code_of(programs: Mapping[str, str], columns: Columns) -> dict[str, Any]:
    """The code of a plan as plain values: the digests of its programs, and the columns that they were made for."""
    shapes = {
        # The dtype that a program sees: 32 bits instead of 64, unless JAX is set to keep 64.
        name: {"shape": list(shape), "dtype": str(jax.dtypes.canonicalize_dtype(dtype))}
        for name, (shape, dtype) in columns.items()
    }
    return {"columns": shapes, "programs": dict(programs)}


def digest(document: Mapping[str, Any], code: Mapping[str, Any]) -> str:
    """SHA-256 of a plan's document and its code, 64 hexadecimal digits."""
    return hashlib.sha256(canonical({"plan": document, "code": code})).hexdigest()


def real(value: float) -> float | str:
    """A float in a form that JSON can hold: itself, or `"inf"`, `"-inf"` or `"nan"`."""
    return float(value) if math.isfinite(value) else repr(float(value))


def _plain(value: Any) -> Any:
    """Settings as plain values."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return real(value) if isinstance(value, float) else value


def _stages(stage: Stage, program: Callable[[], str]) -> list[Named]:
    def named(part: Stage) -> Named:
        maker = STAGES.get(part.kind)
        if maker is not None and is_made_of(part, maker, part.settings):
            return {part.kind: _settings(maker, part.settings)}
        return {CUSTOM: {"name": part.name, "program": program()}}

    return [named(part) for part in stage.singles]


def _examples(plan: "Plan") -> list[Named] | None:
    stage, bound = plan.local.examples, plan.example_stages
    if stage is None or bound is None:
        return None
    return _stages(stage, lambda: of_stages(bound, plan.layout.size, 1 + len(plan.measured.coordinates)))


def _algorithm(algorithm: Algorithm, program: Callable[[], str]) -> Named:
    maker = ALGORITHMS.get(algorithm.name)
    if maker is None or not is_made_of(algorithm, maker, algorithm.settings):
        return {CUSTOM: {"name": algorithm.name, "program": program()}}
    settings = {
        name: _algorithm(value, program) if isinstance(value, Algorithm) else value
        for name, value in algorithm.settings
    }
    return {algorithm.name: _settings(maker, settings.items())}


def _optimizer(plan: "Plan", optimizer: Any) -> Named:
    if not isinstance(optimizer, optax.GradientTransformation):
        first = read_optimizer(optimizer(1))
        program = of_optimizer(plan, optimizer)
        return {CUSTOM: {"by_round": True, "reads": _plain(first.value), "program": program}}
    reading = read_optimizer(optimizer)
    if reading.complete:
        return _plain(reading.value)
    program = of_optimizer(plan, lambda _: optimizer)
    return {CUSTOM: {"by_round": False, "reads": _plain(reading.value), "program": program}}


def _settings(maker: Callable[..., Any], settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Settings as plain values. Where the argument is a float, a whole number becomes one, so that `1` is `1.0`."""
    kinds = {name: parameter.annotation for name, parameter in inspect.signature(maker).parameters.items()}

    def plain(name: str, value: Any) -> Any:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        is_real = kinds[name] is float or float in get_args(kinds[name])
        return _plain(float(value) if is_integer and is_real else value)

    return {name: plain(name, value) for name, value in settings}


def is_made_of(part: Any, maker: Callable[..., Any], settings: Iterable[tuple[str, Any]]) -> bool:
    """Whether a part is what `maker` makes from its settings. If not, it is custom, whatever its name."""
    try:
        return _same(part, maker(**dict(settings)))
    except (PlanError, TypeError):
        return False


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal. Functions are equal if they have the same code and close over equal values."""
    if one is other:
        return True
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, FunctionType):
        cells = [[cell.cell_contents for cell in function.__closure__ or ()] for function in (one, other)]
        return one.__code__ is other.__code__ and _same(*cells)
    if isinstance(one, Stage):
        return _same(vars(one), vars(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
