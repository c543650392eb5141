"""Optax optimisers by name and number, read from the functions they are made of, since optax keeps no names."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optax

UNREAD = "custom"  # in place of what cannot be told
_READ = "optax", "jax", "numpy"  # whose functions are known by their names
# What optax's own optimisers are made of, before the learning rate.
_NAMED = {
    (): "sgd",
    ("trace",): "sgd",
    ("scale_by_adam",): "adam",
    ("scale_by_adam", "add_decayed_weights"): "adamw",
    ("scale_by_yogi",): "yogi",
    ("scale_by_rss",): "adagrad",
    ("scale_by_rms",): "rmsprop",
}
_WRAPS = "with_extra_args_support", "chain", "identity"  # what transformations are put together with
_STATELESS = optax.identity().init
_ARGUMENTS = {("trace", "decay"): "momentum"}  # that have another name there


class Reading(NamedTuple):
    """An optimiser as far as it can be read.

    Attributes:
        value: `{name: settings}`, such as ``{"sgd": {"learning_rate": 0.1}}``; settings that cannot be told are `UNREAD`.
        whole: nothing was left out.
    """

    value: dict[str, Any]
    whole: bool


def read_optimizer(optimizer: optax.GradientTransformation) -> Reading:
    """An optimiser by name and number.

    A name is that of a function of optax, and settings are those of the function's arguments that the optimiser holds on to.
    Several transformations one after the other are ``{"chain": {"transforms": [...]}}``.
    """
    parts = _parts(optimizer)
    return Reading(_joined([value for value, _ in parts]), all(whole for _, whole in parts))


def _parts(transformation: Any) -> list[Reading]:
    """The transformations one is made of, in order."""
    init, update = transformation
    name, before, after = _made_by(update), _cells(init), _cells(update)
    if name == "with_extra_args_support" and after["tx"][0] is init:
        return _parts(after["tx"])
    if name == "chain" and _made_by(init) == name and len(before["init_fns"]) == len(after["update_fns"]):
        pairs = zip(before["init_fns"], after["update_fns"], strict=True)
        return [part for pair in pairs for part in _parts(pair)]
    if name == "identity" and init is _STATELESS:
        return []
    # Its first state must be that of the same transformation, or of one without a state.
    if name in (None, *_WRAPS) or not (init is _STATELESS or _made_by(init) == name):
        return [Reading({UNREAD: {}}, False)]
    settings, whole = _settings({**before, **after})
    return [Reading({name: settings}, whole)]


def _made_by(function: Any) -> str | None:
    """The function of optax that has made another one; None for one of somebody else's."""
    name, inside, _ = getattr(function, "__qualname__", "").partition(".<locals>.")
    return name if inside and _root(function) == "optax" else None


def _root(function: Any) -> str:
    return str(getattr(function, "__module__", "")).partition(".")[0]


def _settings(cells: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    read = {name: _read(value) for name, value in cells.items()}
    return {name: value for name, (value, _) in read.items()}, all(whole for _, whole in read.values())


def _read(value: Any) -> tuple[Any, bool]:
    """A value of a closure as a plain one, and whether that is all there is to it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value, True
    if isinstance(value, optax.GradientTransformation):
        return read_optimizer(value)
    if isinstance(value, list | tuple):
        read = [_read(one) for one in value]
        return [one for one, _ in read], all(whole for _, whole in read)
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name, True
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item(), True
    if callable(value) and _root(value) in _READ:
        name = _made_by(value)
        if name is None and not _cells(value) and hasattr(value, "__name__"):
            return f"{value.__module__}.{value.__name__}", True
        if name is not None:
            settings, whole = _settings(_cells(value))
            return {name: settings}, whole
    return UNREAD, False


def _cells(function: Callable[..., Any]) -> dict[str, Any]:
    """What a function has closed over, by name."""
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


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Transformations as one: by the name of the optimiser that optax makes of them, if it is one of the usual."""
    names = tuple(name for part in parts for name in part)
    rate = _learning_rate(parts[-1]) if parts else None
    if rate is not None and names[:-1] in _NAMED:
        usual = _NAMED[names[:-1]]
        known = inspect.signature(getattr(optax, usual)).parameters
        found: dict[str, Any] = {
            _ARGUMENTS.get((name, key), str(key)): value
            for part in parts[:-1]
            for name, one in part.items()
            for key, value in one.items()
        }
        settings = {key: value for key, value in found.items() if key in known}
        try:
            again = [value for value, _ in _parts(getattr(optax, usual)(1.0, **settings))]
        except (TypeError, ValueError):  # of settings that could not be read
            again = []
        if again[:-1] == parts[:-1]:  # what is no argument of it is as it always is
            return {usual: {"learning_rate": rate, **settings}}
    if len(parts) == 1:
        return parts[0]
    return {"chain": {"transforms": parts}} if parts else {"identity": {}}


def _learning_rate(part: dict[str, Any]) -> Any:
    """The learning rate, if a transformation is what optax makes of one; None if it is another."""
    step = part.get("scale", {}).get("step_size")
    if isinstance(step, int | float) and not isinstance(step, bool):
        return -step
    schedule = part.get("scale_by_schedule", {}).get("step_size_fn")
    made = schedule.get("scale_by_learning_rate") if isinstance(schedule, dict) else None
    return made["learning_rate"] if made and made.keys() >= {"learning_rate"} else None
