"""A plan's document as one flat mapping: what each of its numbers and names is called, for tables and trackers."""

from collections.abc import Mapping
from typing import Any

# What follows from the rest of a plan's document, and is no field of its own.
_FOLLOWS = ("fairyring", "higher_is_better", "protection", "secure_sum", "bytes_up", "bytes_down")


def plan_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values by their paths, such as ``local.optimizer.sgd.learning_rate``.

    The kind of a part is a field, too: ``local.optimizer`` is ``sgd``. An item of a list is called by its own name, if it has one; its place
    in the list is a field, since stages are told apart by that.
    """
    return _flat({name: value for name, value in document.items() if name not in _FOLLOWS}, "")


def _flat(value: Any, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for place, one in enumerate(value):
            name = one.get("name") if isinstance(one, Mapping) else None
            # A stage is a mapping from its name alone: stages are told apart by that, and their order is a difference, too.
            found |= _flat(one, path if name is None else f"{path}.{name}") | {f"{path}[{place}]": _head(one)}
        return found
    if not isinstance(value, Mapping):
        return {path: value}
    if (
        path
        and len(value) == 1
        and isinstance(next(iter(value.values())), Mapping)
        and not path.endswith("]")
    ):
        found[path] = _head(value)
    for name, inner in value.items():
        found |= _flat(inner, f"{path}.{name}" if path else str(name))
    return found


def _head(part: Any) -> Any:
    """What a part of a plan is called."""
    if not isinstance(part, Mapping):
        return part
    return str(part.get("name") or next(iter(part), "–"))
