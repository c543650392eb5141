"""Optax optimisers by name and numbers, read from the closures of their functions, since optax stores no names."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optax

from fairyring.learning import optimizers

UNREAD = "custom"  # stands for what cannot be read
_READ = "optax", "jax", "numpy"  # packages whose functions are known by their names
# The transformations of optax's own optimisers, before the learning rate.
_NAMED = {
    (): "sgd",
    ("trace",): "sgd",
    ("scale_by_adam",): "adam",
    ("scale_by_adam", "add_decayed_weights"): "adamw",
    ("scale_by_yogi",): "yogi",
    ("scale_by_rss",): "adagrad",
    ("scale_by_rms",): "rmsprop",
    ("scale_by_fedadam",): "fedadam",
    ("scale_by_fedyogi",): "fedyogi",
    ("scale_by_fedadagrad",): "fedadagrad",
}
_OURS = {
    maker.__name__: maker
    for maker in (
        optimizers.fedadam,
        optimizers.fedyogi,
        optimizers.fedadagrad,
        optimizers.scale_by_fedadam,
        optimizers.scale_by_fedyogi,
        optimizers.scale_by_fedadagrad,
    )
}
_FIXED = {
    "fedadam": {"bias_correction": False}
}  # arguments that the transformations of an optimiser stand for
_WRAPS = "with_extra_args_support", "chain", "identity"  # functions that put transformations together
_STATELESS = optax.identity().init
_ARGUMENTS = {("trace", "decay"): "momentum"}  # arguments with another name in the optimiser


class Reading(NamedTuple):
    """An optimiser as far as it can be read.

    Attributes:
        value: `{name: settings}`, such as ``{"sgd": {"learning_rate": 0.1}}``. A setting that cannot be read is `UNREAD`.
        complete: whether everything could be read.
    """

    value: dict[str, Any]
    complete: bool


def read_optimizer(optimizer: optax.GradientTransformation) -> Reading:
    """An optimiser by name and numbers.

    The name is that of a function of optax or of `fairyring.learning.optimizers`. The settings are those arguments of the function that the optimiser still holds.
    Several transformations in a row are ``{"chain": {"transforms": [...]}}``.
    """
    parts = _parts(optimizer)
    return Reading(_joined([value for value, _ in parts]), all(complete for _, complete in parts))


def _parts(transformation: Any) -> list[Reading]:
    """The transformations that a transformation consists of, in order."""
    init, update = transformation
    name, before, after = _made_by(update), _cells(init), _cells(update)
    if name == "with_extra_args_support" and after["tx"][0] is init:
        return _parts(after["tx"])
    if name == "chain" and _made_by(init) == name and len(before["init_fns"]) == len(after["update_fns"]):
        pairs = zip(before["init_fns"], after["update_fns"], strict=True)
        return [part for pair in pairs for part in _parts(pair)]
    if name == "identity" and init is _STATELESS:
        return []
    # `init` must come from the same transformation, or be that of a transformation without state.
    if name in (None, *_WRAPS) or not (init is _STATELESS or _made_by(init) == name):
        return [Reading({UNREAD: {}}, False)]
    settings, complete = _settings({**before, **after})
    return [Reading({name: settings}, complete)]


def _made_by(function: Any) -> str | None:
    """The name of the function of optax, or of our optimisers, that made `function`; None if none did."""
    name, inside, _ = getattr(function, "__qualname__", "").partition(".<locals>.")
    known = _root(function) == "optax" or getattr(function, "__module__", None) == optimizers.__name__
    return name if inside and known else None


def maker_of(name: str) -> Callable[..., optax.GradientTransformation] | None:
    """The function that makes an optimiser or a transformation of this name: ours, or that of optax; None if there is none."""
    return _OURS.get(name) or getattr(optax, name, None)


def _root(function: Any) -> str:
    return str(getattr(function, "__module__", "")).partition(".")[0]


def _settings(cells: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    read = {name: _read(value) for name, value in cells.items()}
    values = {name: value for name, (value, _) in read.items()}
    return values, all(complete for _, complete in read.values())


def _read(value: Any) -> tuple[Any, bool]:
    """A value from a closure as a plain value, and whether that describes it completely."""
    if value is None or isinstance(value, bool | int | float | str):
        return value, True
    if isinstance(value, optax.GradientTransformation):
        return read_optimizer(value)
    if isinstance(value, list | tuple):
        read = [_read(item) for item in value]
        return [item for item, _ in read], all(complete for _, complete in read)
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name, True
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item(), True
    if callable(value) and _root(value) in _READ:
        name = _made_by(value)
        if name is None and not _cells(value) and hasattr(value, "__name__"):
            return f"{value.__module__}.{value.__name__}", True
        if name is not None:
            settings, complete = _settings(_cells(value))
            return {name: settings}, complete
    return UNREAD, False


def _cells(function: Callable[..., Any]) -> dict[str, Any]:
    """The values that a function closes over, by name."""
    code, closure = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or closure is None:
        return {}
    values = {}
    for name, cell in zip(code.co_freevars, closure, strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:  # the cell is empty
            continue
    return values


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Transformations as one value: under the name of the optax optimiser that consists of them, if `_NAMED` has it."""
    names = tuple(name for part in parts for name in part)
    rate = _learning_rate(parts[-1]) if parts else None
    if rate is not None and names[:-1] in _NAMED:
        optimizer = _NAMED[names[:-1]]
        maker = maker_of(optimizer)
        assert maker is not None, "one of `_NAMED`"
        parameters = inspect.signature(maker).parameters
        values: dict[str, Any] = {
            _ARGUMENTS.get((name, key), str(key)): value
            for part in parts[:-1]
            for name, arguments in part.items()
            for key, value in arguments.items()
        }
        settings = {key: value for key, value in values.items() if key in parameters} | _FIXED.get(
            optimizer, {}
        )
        try:
            rebuilt = [value for value, _ in _parts(maker(1.0, **settings))]
        except (TypeError, ValueError):  # some settings could not be read
            rebuilt = []
        if rebuilt[:-1] == parts[:-1]:  # whatever is not an argument of the optimiser has its usual value
            return {optimizer: {"learning_rate": rate, **settings}}
    if len(parts) == 1:
        return parts[0]
    return {"chain": {"transforms": parts}} if parts else {"identity": {}}


def _learning_rate(part: dict[str, Any]) -> Any:
    """The learning rate, if optax makes this transformation from one; None otherwise."""
    step = part.get("scale", {}).get("step_size")
    if isinstance(step, int | float) and not isinstance(step, bool):
        return -step
    schedule = part.get("scale_by_schedule", {}).get("step_size_fn")
    scaling = schedule.get("scale_by_learning_rate") if isinstance(schedule, dict) else None
    return scaling["learning_rate"] if scaling and scaling.keys() >= {"learning_rate"} else None
