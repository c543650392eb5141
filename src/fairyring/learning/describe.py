"""Optax optimisers in words, read from the functions they are made of, since optax keeps no names."""

from typing import Any

import optax

SILENT = ("identity", "init_empty_state", "base")


def describe_optimizer(optimizer: object) -> str:
    """An optimiser as text: ``sgd(learning_rate=0.1)``, ``chain(trace(decay=0.9), scale(step_size=-1.0))``.

    A function from the round to an optimiser is described at round 1.
    """
    if isinstance(optimizer, optax.GradientTransformation):
        return _joined(_parts(optimizer.update)) or "identity"
    if callable(optimizer):
        return f"{describe_optimizer(optimizer(1))} at round 1, changing with the round"
    return repr(optimizer)


def _parts(function: Any) -> list[str]:
    """The transformations an update function is made of, each in words."""
    name = getattr(function, "__qualname__", type(function).__name__).split(".<locals>")[0]
    cells = _cells(function)
    if name in SILENT:
        return []
    if name in ("chain", "with_extra_args_support"):
        inner = [_update_of(value) for cell in cells.values() for value in _several(cell)]
        return [text for update in inner if update is not None for text in _parts(update)]
    numbers = [f"{key}={_short(value)}" for key, value in sorted(cells.items()) if _told(value)]
    return [f"{name}({', '.join(numbers)})"]


def _update_of(value: Any) -> Any:
    """The update function in a value of a closure, or None: init functions are told from it by their name."""
    if isinstance(value, optax.GradientTransformation):
        return value.update
    local = getattr(value, "__qualname__", "").rpartition(".")[2]
    return value if callable(value) and "init" not in local else None


def _told(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) or (callable(value) and bool(_cells(value)))


def _short(value: Any) -> str:
    if not callable(value):
        return f"{value}"
    name = getattr(value, "__qualname__", "function").split(".<locals>")[0]
    inner = [f"{key}={_short(cell)}" for key, cell in sorted(_cells(value).items()) if _told(cell)]
    return f"{name}({', '.join(inner)})"


def _cells(function: Any) -> dict[str, Any]:
    code, closure = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or closure is None:
        return {}
    found = {}
    for name, cell in zip(code.co_freevars, closure, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a cell that is not filled
            continue
    return found


def _several(value: Any) -> list[Any]:
    if isinstance(value, optax.GradientTransformation):
        return [value]
    return list(value) if isinstance(value, tuple | list) else [value]


def _joined(parts: list[str]) -> str:
    if len(parts) == 1 and parts[0].startswith("scale(step_size=-"):
        return f"sgd(learning_rate={parts[0][len('scale(step_size=-') : -1]})"
    return parts[0] if len(parts) == 1 else f"chain({', '.join(parts)})" if parts else ""
