"""A plan's document in a few lines: who trains, how, and what becomes of the updates."""

from collections.abc import Mapping
from typing import Any

from fairyring.report.kit import mapping, units


def plan_in_words(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader looks for first: a word for it, and what the plan says. What the document does not have is left out."""
    task, local = mapping(plan.get("task")), mapping(plan.get("local"))
    rows: list[tuple[str, str]] = []
    size = plan.get("parameters")
    model = f", by a model with {units.count(size, 'parameter')}" if isinstance(size, int) else ""
    if task.get("name"):
        reads = f" of column {task['inputs']}" if task.get("inputs") else ""
        rows.append(("learned", f"{task['name']}{reads}{model}"))
    if local:
        rows.append(("on a client", _local(local)))
    algorithm = _call(plan.get("algorithm", "averaging"))
    if algorithm != "averaging":
        rows.append(("algorithm", algorithm))
    if plan.get("cohort") is not None:
        rows.append(("clients of a round", _call(plan["cohort"])))
    stages = plan.get("aggregation")
    if isinstance(stages, list) and stages:
        rows.append(("an update", ", then ".join(map(_call, stages))))
    if plan.get("server") is not None:
        rows.append(("on the server", _call(plan["server"])))
    up, down = plan.get("bytes_up"), plan.get("bytes_down")
    if isinstance(up, int) and isinstance(down, int):
        rows.append(
            ("travels", f"{units.size(up)} up and {units.size(down)} down, for each client and round")
        )
    privacy = mapping(plan.get("privacy"))
    if privacy:
        rows.append(
            ("budget", ", ".join(_term(name, value) for name, value in privacy.items() if value is not None))
        )
    return rows


def _term(name: str, value: Any) -> str:
    """A field of the budget: `epsilon 8`, `noise (mechanism skellam, multiplier 1.5)`."""
    if isinstance(value, Mapping):
        return f"{name} ({', '.join(_term(n, v) for n, v in value.items() if v is not None)})"
    return f"{name} {_text(value)}"


def _local(local: Mapping[str, Any]) -> str:
    steps, epochs, batch = local.get("steps"), local.get("epochs"), local.get("batch_size")
    parts = []
    if isinstance(steps, int):
        parts.append(units.count(steps, "step"))
    elif isinstance(epochs, int):
        parts.append(units.count(epochs, "epoch"))
    parts += [f"batches of {batch}"] if batch is not None else []
    parts += [_call(local["optimizer"])] if local.get("optimizer") is not None else []
    parts += ["noise in every step"] if local.get("examples") is not None else []
    return ", ".join(parts)


def _call(part: Any) -> str:
    """A part of a plan as it is written: `sgd(learning_rate=0.1)`."""
    if isinstance(part, list):
        return ", then ".join(map(_call, part))
    if not isinstance(part, Mapping):
        return _text(part)
    words = []
    for name, inner in part.items():
        fields = inner.items() if isinstance(inner, Mapping) else ()
        given = ", ".join(f"{field}={_text(value)}" for field, value in fields if value is not None)
        words.append(f"{name}({given})" if isinstance(inner, Mapping) and given else str(name))
    return ", ".join(words)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return _call(value) if isinstance(value, Mapping | list) else str(value)
