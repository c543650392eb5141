"""What one bacterium of the plain loops senses, decides, learns and is rewarded for."""

import math
from dataclasses import dataclass, field
from typing import Any

from fairyring.ecology.world.settings import World

CLOSE = 1e-5


@dataclass
class Cell:
    """A bacterium."""

    x: float
    y: float
    angle: float
    energy: float
    memory: float
    genome: list[float]
    tumbled: bool = False
    emitted: bool = False
    values: list[list[float]] = field(default_factory=list)  # [states][actions], where it learns
    last: tuple[int, int] | None = None  # state and action of the step before
    reward: float = 0.0


@dataclass
class Tally:
    """What a step did."""

    died: list[int] = field(default_factory=list)
    divided: list[int] = field(default_factory=list)
    born: list[int] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    amounts: dict[str, float] = field(default_factory=dict)
    close: bool = False

    def less(self, one: float, other: float) -> bool:
        """`one < other`, and whether that is too close to tell."""
        self.close |= abs(one - other) < CLOSE * max(1.0, abs(one), abs(other))
        return one < other

    def whole(self, number: float) -> int:
        """The whole part, and whether that is too close to tell."""
        self.close |= abs(number - round(number)) < CLOSE
        return math.floor(number)


def sensed(settings: World, knob: dict[str, Any], felt: dict[str, float], tally: Tally) -> int:
    """The state, as text says it: senses in their order, the last counts fastest."""
    digits = {}
    low, high = (not tally.less(felt["food"], knob[name]) for name in ("level_low", "level_high"))
    digits["food"] = 2 if high else 1 if low else 0
    threshold = knob["change_threshold"]
    falling, rising = tally.less(felt["change"], -threshold), tally.less(threshold, felt["change"])
    digits["change"] = 0 if falling else 2 if rising else 1
    if "signal_threshold" in knob:
        digits["signal"] = int(tally.less(knob["signal_threshold"], felt["signal"]))
    index = 0
    for sense in settings.senses:
        index = index * len(sense.labels) + digits[sense.name]
    return index


def by_table(genome: list[float], state: int, actions: int, coin: float, beta: float, tally: Tally) -> int:
    """The softmax's actions laid end to end, and where the coin falls: tumbling first of two, running of more."""
    odds = [math.exp(beta * genome[state * actions + a]) for a in range(actions)]
    if actions == 2:
        return 1 if tally.less(coin, odds[1] / sum(odds)) else 0
    action, upto = 0, odds[0]
    while action < actions - 1 and not tally.less(coin, upto / sum(odds)):
        action += 1
        upto += odds[action]
    return action


def learned(
    values: list[list[float]],
    c: Cell,
    state: int,
    spare: int,
    coin: float,
    knob: dict[str, Any],
    tally: Tally,
) -> int:
    """Q-learning's update of `values` in place, and its next action."""
    if c.last is not None:
        before, did = c.last
        values[before][did] += knob["alpha"] * (
            c.reward + knob["gamma"] * max(values[state]) - values[before][did]
        )
    actions = len(values[state])
    if coin < knob["epsilon"]:
        return (spare // 4) % actions
    best = max(values[state])
    for value in values[state]:
        tally.close |= 0 < best - value < CLOSE
    equals = [action for action, value in enumerate(values[state]) if value == best]
    return equals[len(equals) * spare // 4096]


def first_values(
    s: World, genome: list[float], parents: list[list[float]], heredity: str, knob: dict[str, Any]
) -> list[list[float]]:
    if heredity == "evolved values":
        own = genome[len(s.events) :]
        return [own[k * s.actions : (k + 1) * s.actions] for k in range(s.states)]
    share = {"rewards": 0.0, "retention": knob["retention"], "lamarck": 1.0}[heredity]
    return [[share * value for value in row] for row in parents]


def happened(
    name: str,
    c: Cell,
    felt: dict[str, float],
    uptake: float,
    luck: float,
    knob: dict[str, Any],
    tally: Tally,
    *,
    others: int,
    deaths: int,
    divided: bool,
) -> float:
    match name:
        case "alive":
            return 1.0
        case "eat":
            return uptake / knob["uptake_limit"]
        case "hungry":
            return float(tally.less(c.energy, 0.6))
        case "sated":
            return float(tally.less(1.4, c.energy))
        case "signal":
            return float(tally.less(knob["signal_threshold"], felt["signal"]))
        case "emitted":
            return float(c.emitted)
        case "encounter":
            return float(others > 0)
        case "divided":
            return float(divided)
        case "near death":
            return float(tally.less(c.energy, 0.15))
        case "dummy":
            return float(tally.less(luck, 0.1)) * (1 if tally.less(luck, 0.05) else -1)
        case "food rising":
            return float(tally.less(knob["change_threshold"], felt["change"]))
        case "death":
            return 0.0  # whoever is asked lives
        case "death nearby":
            return float(deaths > 0)
    raise AssertionError(name)
