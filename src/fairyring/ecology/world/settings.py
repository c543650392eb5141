"""Settings of the two worlds, checked when they are made.

Rates are per step and lengths are in cells. A step stands for 0.1 s and a cell for 4 µm, so that a running bacterium is as
fast as E. coli (20 µm/s). The code itself does not use seconds.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, Self

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.world import events as happenings
from fairyring.ecology.world import senses as feelings
from fairyring.ecology.world.events import Event
from fairyring.ecology.world.policies import Policy, q_learning, tables
from fairyring.ecology.world.senses import Sense, states_of

Control = Literal["none", "scrambled", "blind"]
LARGEST = 1e30  # of any number: worlds are computed in float32, and sums must stay finite


@dataclass(frozen=True, kw_only=True)
class World:
    """Settings that the two worlds have in common. Make a `World1` or a `World2`.

    Args:
        width: cells per side of the torus.
        capacity: largest number of bacteria, a multiple of 32. A parent that finds no free place waits, and is counted.
        founders: bacteria at the start, with random genomes.
        minimum: while fewer bacteria live, immigrants with random genomes come in.
        sources: number of food sources.
        food_influx: energy that all sources together give in a step.
        food_decay: share of the food that is lost in a step.
        food_diffusion: share of a cell's food that goes to each of its four neighbours in a step.
        source_spread: standard deviation of the Gaussian over which a source spreads its food, cells.
        source_lifetime: mean number of steps until a source jumps to another place.
        speed: of a run, cells per step.
        turning: rotational diffusion of a run, rad² per step; the variance of a heading grows by twice that.
        dwell: whether a tumbling bacterium stands still for a step. Otherwise it turns and runs in the same step.
        uptake_rate: share of a cell's food that a bacterium can eat in a step.
        uptake_limit: the most that a bacterium can eat in a step.
        basal_cost: energy that living costs in a step.
        start_energy: of founders and immigrants.
        division_energy: energy at which a bacterium divides; each half gets half of it.
        mutation_rate: probability that an entry of the genome mutates at a division.
        mutation_scale: standard deviation of a mutation.
        conjugation: probability that a bacterium that meets another takes over one entry of its genome.
        memory: time constant, in steps, of the leaky memory that change is measured against.
        level_low, level_high: food at which the second and the third level begin.
        change_threshold: relative change beyond which food is sensed to fall or rise.
        senses: what a bacterium senses.
        policy: how it decides.
        control: "scrambled": children get random genomes; "blind": each gets the observation of another bacterium.

    Raises:
        EcologyError: an impossible value, or an unstable diffusion.
    """

    width: int = 128
    capacity: int = 2048
    founders: int = 400
    minimum: int = 64
    sources: int = 6
    food_influx: float = 30.0
    food_decay: float = 0.01
    food_diffusion: float = 0.2
    source_spread: float = 5.0
    source_lifetime: float = 300.0
    speed: float = 0.5
    turning: float = 0.01
    dwell: bool = True
    uptake_rate: float = 0.1
    uptake_limit: float = 0.05
    basal_cost: float = 0.02
    start_energy: float = 1.0
    division_energy: float = 2.0
    mutation_rate: float = 0.02
    mutation_scale: float = 0.5
    conjugation: float = 0.05
    memory: float = 4.0
    level_low: float = 0.02
    level_high: float = 0.2
    change_threshold: float = 0.01
    senses: tuple[Sense, ...] = (feelings.LEVEL, feelings.CHANGE)
    policy: Policy = dataclasses.field(default_factory=tables)
    control: Control = "none"

    def __post_init__(self) -> None:
        if type(self) is World:
            raise EcologyError(
                "World", given="the base class", expected="World1 or World2", do="Make one of them."
            )
        for name, (low, high) in self.limits().items():
            value = getattr(self, name)
            number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
            if not number or not isfinite(value) or not low <= value <= min(high, LARGEST):
                high = high if high < float("inf") or not number else LARGEST
                upto = f"from {low:g} to {high:g}" if high < float("inf") else f"of at least {low:g}"
                raise EcologyError(
                    name, given=repr(value), expected=f"a number {upto}", do="Give one that is."
                )
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.type is int and not isinstance(value, int | np.integer):
                raise EcologyError(name, given=repr(value), expected="a whole number", do="Give one that is.")
            if field.type is bool and not isinstance(value, bool):
                raise EcologyError(name, given=repr(value), expected="True or False", do="Give one that is.")
            # 30 and NumPy's 30.0 run the same program as 30.0, and are stored alike.
            if field.type in (int, float):
                object.__setattr__(self, name, field.type(value))
        self._parts("senses", Sense)
        self._together()

    def _parts(self, name: str, kind: type) -> None:
        """Check a field that holds several parts with different names; a list is accepted for a tuple."""
        given = getattr(self, name)
        parts = tuple(given) if isinstance(given, list | tuple) else (given,)
        names = [part.name for part in parts if isinstance(part, kind)]
        if len(set(names)) < len(parts):
            raise EcologyError(
                name,
                given=", ".join(part.name if isinstance(part, kind) else repr(part) for part in parts),
                expected=f"a tuple of {kind.__name__}, each with a name of its own",
                do="Remove what is not one, and rename duplicates.",
            )
        object.__setattr__(self, name, parts)

    def _together(self) -> None:
        """Check what depends on several fields."""
        if self.capacity % 32:
            raise EcologyError(
                "capacity",
                given=self.capacity,
                expected="a multiple of 32",
                do=f"Take {-(-self.capacity // 32) * 32}.",
            )
        for name in ("founders", "minimum"):
            if getattr(self, name) > self.capacity:
                raise EcologyError(
                    "capacity",
                    given=f"{self.capacity}, with {name} {getattr(self, name)}",
                    expected=f"room for the {name}",
                    do="Raise the capacity.",
                )
        for name in self.chemicals():
            decay, diffusion = getattr(self, f"{name}_decay"), getattr(self, f"{name}_diffusion")
            if 4 * diffusion + decay > 1:
                raise EcologyError(
                    f"{name}_diffusion",
                    given=f"{diffusion:g}, with {name}_decay {decay:g}",
                    expected="4 * diffusion + decay of at most 1, since no more can leave a cell than is in it",
                    do="Lower one of them.",
                )
        if self.division_energy <= self.start_energy:
            raise EcologyError(
                "division_energy",
                given=f"{self.division_energy:g}, with start_energy {self.start_energy:g}",
                expected="more than founders and immigrants start with",
                do="Raise it.",
            )
        if self.level_low > self.level_high:
            raise EcologyError(
                "level_low", given=f"{self.level_low:g}", expected="at most level_high", do="Exchange them."
            )
        if self.control not in ("none", "scrambled", "blind"):
            raise EcologyError(
                "control",
                given=repr(self.control),
                expected="'none', 'scrambled' or 'blind'",
                do="Choose one of them.",
            )
        if not self.senses:
            raise EcologyError("senses", given="none", expected="one or more", do="Give it a sense.")
        if feelings.SIGNAL in self.senses and "signal" not in self.chemicals():
            raise EcologyError(
                "senses",
                given="the signal",
                expected="senses of fields that the world has",
                do="Leave it out, or use World2, which has a signal.",
            )
        if self.policy.reward is not None and not self.events:
            raise EcologyError(
                "policy",
                given=f"{self.policy.name}, without events",
                expected="events to learn from",
                do="Take World2 with `rewarded` events, or a policy of inherited tables.",
            )

    def limits(self) -> dict[str, tuple[float, float]]:
        """The smallest and the largest value of each number."""
        inf = float("inf")
        return {
            "width": (8, 4096),
            "capacity": (64, 1 << 18),
            "founders": (0, inf),
            "minimum": (0, inf),
            "sources": (1, 1024),
            "food_influx": (0, inf),
            "food_decay": (0, 1),
            "food_diffusion": (0, 0.25),
            "source_spread": (0.5, inf),
            "source_lifetime": (1, inf),
            "speed": (0, 1),
            "turning": (0, 1),
            "uptake_rate": (0, 1),
            "uptake_limit": (0, inf),
            "basal_cost": (0, inf),
            "start_energy": (0, inf),
            "division_energy": (0, inf),
            "mutation_rate": (0, 1),
            "mutation_scale": (0, inf),
            "conjugation": (0, 1),
            "memory": (1, inf),
            "level_low": (0, inf),
            "level_high": (0, inf),
            "change_threshold": (0, 1),
        }

    def chemicals(self) -> tuple[str, ...]:
        """Names of the fields on the grid."""
        return ("food",)

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that a reward is inherited for; none if the world does not learn."""
        return ()

    @property
    def actions(self) -> int:
        """2: run or tumble; 4: each of these, with or without emitting."""
        return 2

    @property
    def states(self) -> int:
        """Number of states of all senses together."""
        return states_of(self.senses)

    @property
    def genes(self) -> int:
        """Number of entries of a genome."""
        return self.policy.genes(self.states, self.actions, len(self.events))

    @property
    def rho(self) -> float:
        """The intake of a bacterium that moves blindly, over the cost of living. Above about 1 blind bacteria survive.

        It assumes food that nobody eats, whose mean concentration is `food_influx / (food_decay * width²)`.
        """
        cost = self.basal_cost * self.food_decay * self.width**2
        return self.uptake_rate * self.food_influx / cost if cost else float("inf")

    def knobs(self) -> dict[str, np.ndarray]:
        """The numbers that a compiled world takes as arguments; they may change while it runs."""
        numbers = self._numbers() | {
            "scrambled": int(self.control == "scrambled"),
            "blind": int(self.control == "blind"),
        }
        return {
            name: np.asarray(value, np.int32 if isinstance(value, int) else np.float32)
            for name, value in numbers.items()
        }

    def structure(self) -> Self:
        """These settings with every knob at its default. Two worlds of the same structure run the same program."""
        defaults = {f.name: 0 if f.type is int else f.default for f in dataclasses.fields(self)}
        return dataclasses.replace(self, control="none", **{name: defaults[name] for name in self._numbers()})

    def described(self) -> dict[str, Any]:
        """These settings as plain values, for reports and run files."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values |= {"senses": [s.name for s in self.senses], "policy": self.policy.name}
        return values | ({"rewarded": [e.name for e in self.events]} if self.events else {})

    def _numbers(self) -> dict[str, int | float]:
        shapes = ("width", "capacity", "sources")
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name in self.limits() and f.name not in shapes
        }


@dataclass(frozen=True, kw_only=True)
class World1(World):
    """Bacteria whose brain is an inherited table: from what they sense, they run or tumble.

    Args:
        beta: inverse temperature of the softmax; probabilities are proportional to exp(beta * entry).
    """

    beta: float = 2.0

    def limits(self) -> dict[str, tuple[float, float]]:
        return super().limits() | {"beta": (0, float("inf"))}


@dataclass(frozen=True, kw_only=True)
class World2(World):
    """Bacteria that learn during their lives from inherited rewards, and can emit a signal without a built-in meaning.

    Args:
        emission_cost: energy that emitting costs in a step.
        emission: amount of signal that is then added to the cell.
        signal_decay, signal_diffusion: as for food.
        signal_threshold: concentration above which the signal is sensed.
        alpha, gamma, epsilon: learning rate, discount factor and share of random actions of Q-learning.
        retention: share of its parent's Q that a child starts with, under the heredity "retention".
        rewarded: the events that a reward is inherited for.
        beta: as in `World1`, for policies that use it.
    """

    food_influx: float = 15.0
    source_lifetime: float = 400.0
    basal_cost: float = 0.01
    memory: float = 2.0
    mutation_rate: float = 0.03
    mutation_scale: float = 0.4
    emission_cost: float = 0.02
    emission: float = 1.0
    signal_decay: float = 0.05
    signal_diffusion: float = 0.2
    signal_threshold: float = 0.05
    alpha: float = 0.2
    gamma: float = 0.8
    epsilon: float = 0.05
    retention: float = 0.5
    beta: float = 2.0
    senses: tuple[Sense, ...] = (feelings.LEVEL, feelings.CHANGE, feelings.SIGNAL)
    policy: Policy = dataclasses.field(default_factory=q_learning)
    rewarded: tuple[Event, ...] = happenings.STANDARD

    def limits(self) -> dict[str, tuple[float, float]]:
        inf = float("inf")
        return super().limits() | {
            "emission_cost": (0, inf),
            "emission": (0, inf),
            "signal_decay": (0, 1),
            "signal_diffusion": (0, 0.25),
            "signal_threshold": (0, inf),
            "alpha": (0, 1),
            "gamma": (0, 1),
            "epsilon": (0, 1),
            "retention": (0, 1),
            "beta": (0, inf),
        }

    def __post_init__(self) -> None:
        self._parts("rewarded", Event)
        super().__post_init__()

    def chemicals(self) -> tuple[str, ...]:
        return ("food", "signal")

    @property
    def events(self) -> tuple[Event, ...]:
        return self.rewarded

    @property
    def actions(self) -> int:
        return 4


KINDS: dict[str, type[World]] = {"v1": World1, "v2": World2}


def kind_of(settings: World) -> str:
    """The key of `KINDS` for settings: "v1" or "v2".

    Raises:
        EcologyError: they are neither.
    """
    for name, kind in KINDS.items():
        if isinstance(settings, kind):
            return name
    raise EcologyError(
        "settings",
        given=f"a {type(settings).__name__}",
        expected="a World1 or a World2",
        do="Make one of them.",
    )


def override(settings: World, changes: Mapping[str, Any]) -> World:
    """`settings` with some fields changed, each to a value or to text for a value.

    Raises:
        EcologyError: there is no such field, or the value does not fit it.
    """
    fields = {f.name: f for f in dataclasses.fields(settings)}
    values = {}
    for name, value in changes.items():
        if name not in fields or name in ("senses", "policy", "rewarded"):
            from difflib import get_close_matches

            near = get_close_matches(name, fields, n=1)
            raise EcologyError(
                f"setting {name!r}",
                given="no such setting",
                expected=f"a field of {type(settings).__name__}",
                do=f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(fields)}.",
            )
        values[name] = _parsed(name, value, getattr(settings, name)) if isinstance(value, str) else value
    return dataclasses.replace(settings, **values)


def _parsed(name: str, text: str, now: Any) -> Any:
    try:
        if isinstance(now, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(now)(text)
    except (KeyError, ValueError):
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(now)]
        raise EcologyError(name, given=repr(text), expected=kind, do="Give one that is.") from None
