"""Settings of a world: what is refused, what is one program, what they say."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from fairyring.core.errors import EcologyError
from fairyring.ecology.world.events import EAT
from fairyring.ecology.world.policies import q_learning, tables
from fairyring.ecology.world.senses import CHANGE, LEVEL, SIGNAL, Sense
from fairyring.ecology.world.settings import World, World1, World2, override

_ANY = (World1(), World2())
_LIMITS = [(type(w), name, low, high) for w in _ANY for name, (low, high) in w.limits().items()]


@pytest.mark.parametrize(
    ("kind", "name", "low", "high"), _LIMITS, ids=[f"{k.__name__}-{n}" for k, n, *_ in _LIMITS]
)
def test_each_number_has_limits(kind: type[World], name: str, low: float, high: float) -> None:
    wrong: list[Any] = [low - 1, float("nan"), float("inf"), "1", None, True]
    wrong += [high + 1] if high < math.inf else []
    value: Any
    for value in wrong:
        with pytest.raises(EcologyError) as refused:
            kind(**{name: value})
        error = refused.value
        assert (error.what, error.given) == (name, repr(value))
        assert "a number" in error.expected
        assert error.do
    if isinstance(getattr(kind(), name), int):
        between: Any = low + 8.5
        with pytest.raises(EcologyError) as refused:
            kind(**{name: between})
        assert (refused.value.what, refused.value.expected) == (name, "a whole number")


@pytest.mark.parametrize(
    ("kind", "fields", "what", "given_is", "do"),
    [
        (World1, {"capacity": 1000}, "capacity", "1000", "Take 1024."),
        (World1, {"founders": 3000}, "capacity", "2048, with founders 3000", "Raise"),
        (World1, {"minimum": 3000}, "capacity", "2048, with minimum 3000", "Raise"),
        (World1, {"food_diffusion": 0.248}, "food_diffusion", "0.248, with food_decay 0.01", "Lower"),
        (World2, {"signal_decay": 0.5}, "signal_diffusion", "0.2, with signal_decay 0.5", "Lower"),
        (World1, {"start_energy": 2.0}, "division_energy", "2, with start_energy 2", "Raise it."),
        (World1, {"level_low": 0.3}, "level_low", "0.3", "Exchange them."),
        (World1, {"control": "deaf"}, "control", "'deaf'", "Choose one of them."),
        (World1, {"senses": ()}, "senses", "none", "Give it a sense."),
        (World1, {"dwell": "no"}, "dwell", "'no'", "Give one that is."),
        (World1, {"food_influx": 1e39}, "food_influx", "1e+39", "Give one that is."),
        (World1, {"senses": (LEVEL, SIGNAL)}, "senses", "the signal", "World2, which has a signal."),
        (World1, {"senses": (LEVEL, LEVEL)}, "senses", "food, food", "rename"),
        (World1, {"senses": ("food",)}, "senses", "'food'", "Remove what is not one"),
        (
            World1,
            {"policy": q_learning()},
            "policy",
            "Q-learning, heredity of retention, without events",
            "World2",
        ),
        (World2, {"rewarded": ()}, "policy", "Q-learning, heredity of retention, without events", "World2"),
        (World2, {"rewarded": (EAT, EAT)}, "rewarded", "eat, eat", "rename"),
        (World, {}, "World", "the base class", "Make one of them."),
    ],
)
def test_what_only_several_settings_get_wrong(
    kind: type[World], fields: dict[str, Any], what: str, given_is: str, do: str
) -> None:
    with pytest.raises(EcologyError) as refused:
        kind(**fields)
    error = refused.value
    assert (error.what, str(error.given)) == (what, given_is)
    assert error.expected
    assert do in error.do
    assert str(error).startswith(f"{what}: given {given_is}; expected")


def test_a_number_is_what_it_was_declared_to_be() -> None:
    whole = World1(food_influx=30, memory=np.float64(4))
    assert whole == World1()
    assert World1(width=np.int64(128), speed=np.float32(0.5)) == World1()
    assert World1(senses=[LEVEL, CHANGE]) == World1()  # pyright: ignore[reportArgumentType]
    assert type(whole.food_influx) is type(whole.memory) is float
    assert {n: v.dtype for n, v in whole.knobs().items()} == {n: v.dtype for n, v in World1().knobs().items()}


@pytest.mark.parametrize("settings", _ANY, ids=["world 1", "world 2"])
def test_worlds_that_differ_in_numbers_run_the_same_program(settings: World) -> None:
    kept = ("division_energy", "start_energy", "memory")
    controls = {"scrambled", "blind"}  # of the field `control`, which is no number
    rates = {n: getattr(settings, n) for n in settings.knobs() if n not in {*kept, *controls}}
    halved = {n: type(value)(value / 2) for n, value in rates.items()}
    other = dataclasses.replace(settings, **halved)
    assert other != settings
    assert other.structure() == settings.structure()
    assert dataclasses.replace(settings, control="blind").structure() == settings.structure()
    assert hash(other.structure()) == hash(settings.structure())
    assert dataclasses.replace(settings, width=64).structure() != settings.structure()
    assert dataclasses.replace(settings, dwell=False).structure() != settings.structure()


def test_a_worlds_shape_follows_from_its_senses_events_and_policy() -> None:
    one, two = _ANY
    assert (one.states, one.actions, one.genes, one.events) == (9, 2, 18, ())
    assert (two.states, two.actions, two.genes, len(two.events)) == (18, 4, 10, 10)
    own = Sense("energy", ("hungry", "sated"), lambda felt: felt.energy > 1)
    assert World1(senses=(*one.senses, own)).genes == 36
    assert World2(policy=q_learning("evolved values")).genes == 10 + 72
    assert World2(policy=tables()).genes == 72
    # a S / (k W^2 cost), by hand
    assert World1().rho == pytest.approx(0.1 * 30 / (0.01 * 128**2 * 0.02), rel=1e-12)
    assert World1(food_influx=60).rho == pytest.approx(2 * World1().rho)
    assert World1(basal_cost=0).rho == math.inf


def test_settings_are_overridden_by_what_text_says() -> None:
    world = override(World1(), {"food_influx": "20", "dwell": "false", "capacity": "512", "control": "blind"})
    assert (world.food_influx, world.dwell, world.capacity, world.control) == (20.0, False, 512, "blind")
    assert override(World2(), {"epsilon": 0.5}) == World2(epsilon=0.5)
    for changes, what, do in (
        ({"food_inflow": "1"}, "setting 'food_inflow'", "'food_influx'"),
        ({"policy": "tables"}, "setting 'policy'", ""),
        ({"dwell": "perhaps"}, "dwell", "Give one that is."),
        ({"capacity": "many"}, "capacity", "Give one that is."),
        ({"speed": "fast"}, "speed", "Give one that is."),
        ({"speed": "2"}, "speed", "Give one that is."),
    ):
        with pytest.raises(EcologyError) as refused:
            override(World1(), changes)
        assert refused.value.what == what
        assert do in refused.value.do
