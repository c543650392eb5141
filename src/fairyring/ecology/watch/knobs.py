"""What can be changed of a world that is being watched: its settings as knobs, by topic.

The numbers that a compiled world takes as arguments are turned while it runs. A setting on which the shape of a world or its program
depends, or that matters at the start only, takes a new world.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fairyring.core.errors import EcologyError
from fairyring.ecology.watch.scene import Knob
from fairyring.ecology.world import World, q_learning

CONTROLS = ("none", "scrambled", "blind")
HEREDITIES = ("rewards", "retention", "evolved values", "lamarck")
RHO = "rho"


class _Row(NamedTuple):
    """A setting as a knob; `step` of 0: any number."""

    label: str
    low: float
    high: float
    unit: str = ""
    log: bool = False
    step: float = 0.0
    choices: tuple[str, ...] = ()
    new_world: bool = False


GROUPS: dict[str, dict[str, _Row]] = {
    "Most used": {
        RHO: _Row("rho: blind uptake / cost", 0.1, 5, log=True),
        "source_lifetime": _Row("a source stays", 10, 3000, "steps", log=True),
        "emission_cost": _Row("cost of emitting", 0, 0.1, "energy"),
        "mutation_rate": _Row("mutation", 0, 0.2, "an entry"),
        "minimum": _Row("fewest bacteria", 0, 400, "bacteria", step=1),
    },
    "Food": {
        "food_influx": _Row("influx of food", 0.1, 300, "energy a step", log=True),
        "food_decay": _Row("decay of food", 0.001, 0.2, "a step", log=True),
        "food_diffusion": _Row("diffusion of food", 0, 0.25, "a neighbour"),
        "source_spread": _Row("spread of a source", 0.5, 30, "cells", log=True),
        "sources": _Row("sources", 1, 32, "sources", step=1, new_world=True),
    },
    "Bodies": {
        "speed": _Row("speed of a run", 0, 1, "cells a step"),
        "turning": _Row("turning in a run", 0.0005, 1, "rad² a step", log=True),
        "uptake_rate": _Row("uptake", 0.005, 1, "of a cell's food", log=True),
        "uptake_limit": _Row("most uptake", 0.005, 1, "energy a step", log=True),
        "basal_cost": _Row("cost of living", 0.001, 0.1, "energy a step", log=True),
        "start_energy": _Row("energy at the start", 0.1, 5, "energy"),
        "division_energy": _Row("energy to divide", 0.5, 10, "energy"),
        "dwell": _Row("stands still to tumble", 0, 1, choices=("no", "yes"), new_world=True),
    },
    "Senses": {
        "memory": _Row("memory", 1, 100, "steps", log=True),
        "level_low": _Row("second level from", 0.001, 1, "food a cell", log=True),
        "level_high": _Row("third level from", 0.01, 5, "food a cell", log=True),
        "change_threshold": _Row("change is felt beyond", 0.0001, 0.5, "of the food", log=True),
        "signal_threshold": _Row("signal is sensed from", 0.001, 2, "signal a cell", log=True),
    },
    "Heredity": {
        "mutation_scale": _Row("size of a mutation", 0, 2),
        "conjugation": _Row("conjugation", 0, 1, "a meeting"),
        "control": _Row("control", 0, 2, choices=CONTROLS),
        "policy": _Row("a child also gets", 0, 3, choices=HEREDITIES, new_world=True),
        "retention": _Row("share of Q that is kept", 0, 1),
    },
    "Choosing and learning": {
        "beta": _Row("beta: how decided a choice is", 0, 10),
        "alpha": _Row("alpha: learning rate", 0, 1),
        "gamma": _Row("gamma: discount factor", 0, 1),
        "epsilon": _Row("epsilon: random actions", 0, 1, "of all"),
    },
    "Signal": {
        "emission": _Row("amount emitted", 0, 5, "signal"),
        "signal_decay": _Row("decay of the signal", 0.001, 0.5, "a step", log=True),
        "signal_diffusion": _Row("diffusion of the signal", 0, 0.25, "a neighbour"),
    },
    "Size": {
        "width": _Row("width of the world", 16, 256, "cells", log=True, step=1, new_world=True),
        "capacity": _Row("room for", 64, 8192, "bacteria", log=True, step=32, new_world=True),
        "founders": _Row("founders", 0, 4000, "bacteria", step=1, new_world=True),
    },
}


def knobs_of(settings: World, begun: World) -> dict[str, Knob]:
    """All knobs of a world, in order.

    Args:
        settings: as they are now.
        begun: as they were when it was made; the defaults of the knobs.
    """
    return {
        name: _knob(name, group, row, _value(settings, name, row), _value(begun, name, row), settings)
        for group, name, row in _rows(settings, begun)
    }


def turned(settings: World, knobs: Mapping[str, Knob], changes: Mapping[str, float], *, anew: bool) -> World:
    """Settings after some knobs were set.

    Args:
        settings: before.
        knobs: of the world, by `knobs_of`.
        changes: value by knob; of a choice, which one.
        anew: whether a new world begins with them.

    Raises:
        EcologyError: no such knob, one that takes a new world, a value out of its range, or values that do not go together.
    """
    values: dict[str, Any] = {}
    for name, value in changes.items():
        if name == RHO and (zeros := without_rho(settings)):
            raise EcologyError(
                name,
                given=f"a world with {' and '.join(zeros)} of 0",
                expected="one whose food is eaten, decays and is needed, since otherwise the influx of food cannot set this ratio",
                do="Begin with other settings.",
            )
        if name not in knobs:
            raise EcologyError(name, given="no knob", expected=", ".join(knobs), do="Turn one of them.")
        knob = knobs[name]
        if knob.new_world and not anew:
            raise EcologyError(
                name, given="a running world", expected="a new one", do="Restart the world with this setting."
            )
        if not knob.low <= value <= knob.high:
            raise EcologyError(
                name, given=value, expected=f"from {knob.low:g} to {knob.high:g}", do="Stay within."
            )
        if name == RHO:
            area = settings.food_decay * settings.width**2
            values["food_influx"] = value * settings.basal_cost * area / settings.uptake_rate
        else:
            values[name] = _setting(settings, name, knob, value)
    return dataclasses.replace(settings, **values)


def without_rho(settings: World) -> list[str]:
    """The settings that are 0 and prevent the influx of food from setting rho; empty if none are."""
    return [name for name in ("uptake_rate", "basal_cost", "food_decay") if settings.knobs()[name] == 0]


def _rows(settings: World, begun: World) -> Iterator[tuple[str, str, _Row]]:
    """Group, name and row of each knob that such a world has."""
    fields = {field.name for field in dataclasses.fields(settings)}
    for group, rows in GROUPS.items():
        for name, row in rows.items():
            if name == RHO:
                there = not without_rho(settings) and not without_rho(begun)
            elif name == "policy":
                there = _heredity(settings) is not None and _heredity(begun) is not None
            else:
                there = name in fields
            if there:
                yield group, name, row


def _knob(name: str, group: str, row: _Row, value: float, default: float, settings: World) -> Knob:
    low, high, log = row.low, row.high, row.log
    if name == "minimum":
        high = min(high, settings.capacity)
    # A world may have begun beyond the usual range, or at 0, which has no logarithm.
    low, high = min(low, value, default), max(high, value, default)
    return Knob(
        name=name,
        label=row.label,
        value=value,
        low=float(low),
        high=float(high),
        unit=row.unit,
        log=log and low > 0,
        default=default,
        group=group,
        step=row.step,
        choices=row.choices,
        new_world=row.new_world,
    )


def _value(settings: World, name: str, row: _Row) -> float:
    if name == RHO:
        return settings.rho
    if name == "policy":
        return float(row.choices.index(_heredity(settings) or row.choices[0]))
    value = getattr(settings, name)
    return float(row.choices.index(value)) if isinstance(value, str) else float(value)


def _setting(settings: World, name: str, knob: Knob, value: float) -> Any:
    if name == "policy":
        return q_learning(HEREDITIES[round(value)])  # pyright: ignore[reportArgumentType] one of them
    if name == "control":
        return CONTROLS[round(value)]
    now = getattr(settings, name)
    if isinstance(now, bool):
        return bool(round(value))
    if isinstance(now, int):
        return round(value / (knob.step or 1)) * int(knob.step or 1)
    return float(value)


def _heredity(settings: World) -> str | None:
    """Which heredity of Q-learning a world has; None for other policies."""
    return next((name for name in HEREDITIES if settings.policy == q_learning(name)), None)
