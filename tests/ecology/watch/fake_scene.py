"""A small world in NumPy that keeps the promises of `Scene`: for tests of what looks at worlds.

Bacteria really eat, starve, divide and inherit here, and food really diffuses. It has no conjugation, no learning, and
its numbers are chosen to be lively, not to be right.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.watch.scene import Counts, Frame, Knob, Life, Mind

LEVELS, CHANGES = ("little", "some", "much"), ("falling", "steady", "rising")
EVENTS = (
    "alive",
    "eat",
    "hungry",
    "sated",
    "signal",
    "emitted",
    "encounter",
    "divided",
    "near death",
    "dummy",
)


@dataclass(frozen=True)
class FakeSettings:
    width: int = 128
    capacity: int = 2048
    founders: int = 400
    rewards: bool = False
    division_energy: float = 2.0


class FakeScene:
    """See the module; `turned`, `painted` and `restarts` say what was asked of it, `advanced` the sizes of its steps."""

    def __init__(self, settings: FakeSettings | None = None, *, seed: int = 0, steady: bool = False) -> None:
        """`steady`: nobody is born, nobody dies and energy stays, so that a number of bacteria can be timed."""
        self.settings = settings or FakeSettings()
        self.steady = steady
        self.turned: list[tuple[str, float]] = []
        self.painted: list[tuple[float, float, float, float]] = []
        self.restarts: list[int] = []
        self.advanced: list[int] = []
        self._values = {"rho": 1.2, "source_lifetime": 300.0, "minimum": 64.0, "width": self.settings.width}
        if self.settings.rewards:
            self._values["emission_cost"] = 0.02
        self._defaults = dict(self._values)
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        width, capacity, n = self.settings.width, self.settings.capacity, self.settings.founders
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.step = 0
        self._food = np.zeros((width, width), np.float32)
        self._signal = np.zeros((width, width), np.float32) if self.settings.rewards else None
        self._shape = (len(EVENTS), 1) if self.settings.rewards else (3, 3)
        self._sources = self.rng.uniform(0, width, (6, 2)).astype(np.float32)
        self._patches()
        self._alive = np.zeros(capacity, bool)
        self._xy = np.zeros((capacity, 2), np.float32)
        self._heading, self._energy, self._memory = (np.zeros(capacity, np.float32) for _ in range(3))
        self._tumbled = np.zeros(capacity, bool)
        self._mind = np.zeros((capacity, *self._shape), np.float32)
        self._uid = np.full(capacity, -1, np.int64)
        self._lives: dict[int, Life] = {}
        self._counts = dict.fromkeys(("births", "deaths", "immigrants"), 0)
        self._add(n, origin="founder")

    def _patches(self) -> None:
        at = np.arange(self.settings.width, dtype=np.float32) + 0.5
        self._influx = np.zeros_like(self._food)
        for x, y in self._sources:
            near = [np.abs(at - c) for c in (x, y)]
            gx, gy = (np.exp(-(np.minimum(d, len(at) - d) ** 2) / 50) for d in near)
            self._influx += np.outer(gx, gy) / 157

    def _add(self, count: int, *, origin: str, parents: np.ndarray | None = None) -> None:
        free = np.flatnonzero(~self._alive)[:count]
        n = len(free)
        if not n:
            return
        self._alive[free] = True
        self._uid[free] = len(self._lives) + np.arange(n)
        self._heading[free] = self.rng.uniform(0, 2 * np.pi, n)
        self._tumbled[free] = False
        self._energy[free] = 1.0
        if parents is None:
            self._xy[free] = self.rng.uniform(0, self.settings.width, (n, 2))
            self._mind[free] = (
                self.rng.normal(0, 0.5, (n, *self._shape))
                if self.settings.rewards
                else 1 / (1 + np.exp(2 * self.rng.normal(0, 1.4, (n, *self._shape))))
            )
        else:
            self._xy[free] = self._xy[parents[:n]]
            change = self.rng.normal(0, 0.3, (n, *self._shape)) * (self.rng.random((n, *self._shape)) < 0.05)
            self._mind[free] = self._mind[parents[:n]] + change
            if not self.settings.rewards:
                self._mind[free] = self._mind[free].clip(0, 1)
        self._memory[free] = self._sensed(free)
        for i, slot in enumerate(free):
            uid = int(self._uid[slot])
            parent = self._lives[int(self._uid[parents[i]])] if parents is not None else None
            self._lives[uid] = Life(
                uid=uid,
                parent=parent.uid if parent else -1,
                founder=parent.founder if parent else uid,
                ancestors=(parent.uid, *parent.ancestors)[:50] if parent else (),
                forebears=parent.forebears + 1 if parent else 0,
                generation=parent.generation + 1 if parent else 0,
                born=self.step,
                died=None,
                offspring=0,
                energy=1.0,
                mind=self._mind[slot].copy(),
                origin=origin,  # pyright: ignore[reportArgumentType]
            )
            if parent:
                self._lives[parent.uid] = replace(parent, offspring=parent.offspring + 1)

    def _cells(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cell = self._xy[slots].astype(np.int64) % self.settings.width
        return cell[:, 0], cell[:, 1]

    def _sensed(self, slots: np.ndarray) -> np.ndarray:
        return self._food[self._cells(slots)]

    def prepare(self) -> None:
        pass

    def advance(self, steps: int) -> None:
        if not 1 <= steps <= 64:
            raise EcologyError("steps", given=steps, expected="1 to 64", do="Ask for fewer at a time.")
        self.advanced.append(steps)
        for _ in range(steps):
            self._one_step()

    def _one_step(self) -> None:
        width, rng = self.settings.width, self.rng
        self.step += 1
        moved = rng.random(6) < 1 / self._values["source_lifetime"]
        if moved.any():
            self._sources[moved] = rng.uniform(0, width, (int(moved.sum()), 2))
            self._patches()
        self._food = _spread(self._food, 0.01)
        self._food += self._influx * np.float32(self._values["rho"] * 0.01 * width**2 * 0.02 / 0.1 / 6)
        slots = np.flatnonzero(self._alive)
        food = self._sensed(slots)
        self._memory[slots] += (food - self._memory[slots]) / 4
        memory = self._memory[slots]
        change = (food - memory) / (food + memory + np.float32(1e-3))
        level, trend = np.digitize(food, (0.02, 0.2)), np.digitize(change, (-0.01, 0.01))
        chance = np.float32(0.2) if self.settings.rewards else self._mind[slots, level, trend]
        tumbling = rng.random(len(slots)) < chance
        self._tumbled[slots] = tumbling
        turn = np.where(tumbling, rng.uniform(0, 2 * np.pi, len(slots)), rng.normal(0, 0.1, len(slots)))
        self._heading[slots] = (self._heading[slots] + turn) % (2 * np.pi)
        heading = self._heading[slots]
        stride = np.where(tumbling, 0, 0.5)[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
        self._xy[slots] = (self._xy[slots] + stride) % np.float32(width)
        if self._signal is not None:
            self._signal = _spread(self._signal, 0.05)
            np.add.at(self._signal, self._cells(slots[rng.random(len(slots)) < 0.02]), 1.0)
        if self.steady:
            return
        cells = self._cells(slots)
        demand = np.zeros_like(self._food)
        np.add.at(demand, cells, np.minimum(0.1 * self._food[cells], 0.05))
        share = np.minimum(1, self._food[cells] / np.maximum(demand[cells], 1e-9))
        eaten = np.minimum(0.1 * self._food[cells], 0.05) * share
        np.subtract.at(self._food, cells, eaten)
        np.maximum(self._food, 0, out=self._food)
        self._energy[slots] += eaten - np.float32(0.02)
        self._turnover(slots)

    def _turnover(self, slots: np.ndarray) -> None:
        for slot in slots[self._energy[slots] <= 0]:
            uid = int(self._uid[slot])
            self._lives[uid] = replace(self._lives[uid], died=self.step, energy=0.0)
            self._alive[slot] = False
            self._counts["deaths"] += 1
        parents = slots[self._alive[slots] & (self._energy[slots] >= self.settings.division_energy)]
        parents = parents[: self.settings.capacity - int(self._alive.sum())]
        if len(parents):
            self._energy[parents] /= 2
            self._add(len(parents), origin="born", parents=parents)
            self._counts["births"] += len(parents)
        short = int(self._values["minimum"]) - int(self._alive.sum())
        if short > 0:
            self._add(short, origin="immigrant")
            self._counts["immigrants"] += short

    def frame(self) -> Frame:
        slots = np.flatnonzero(self._alive)
        # Of nobody there is no mean.
        minds = self._mind[slots] if len(slots) else np.full((1, *self._shape), np.nan, np.float32)
        counts = Counts(
            population=len(slots),
            **self._counts,
            food=float(self._food.sum()),
            signal=0.0 if self._signal is None else float(self._signal.sum()),
        )
        self._counts = dict.fromkeys(self._counts, 0)
        return Frame(
            step=self.step,
            food=self._food.copy(),
            signal=None if self._signal is None else self._signal.copy(),
            uid=self._uid[slots].astype(np.int32),
            x=self._xy[slots, 0],
            y=self._xy[slots, 1],
            direction=self._heading[slots],
            energy=self._energy[slots],
            tumbling=self._tumbled[slots],
            mind=Mind(
                kind="rewards" if self.settings.rewards else "table",
                rows=EVENTS if self.settings.rewards else LEVELS,
                columns=("reward",) if self.settings.rewards else CHANGES,
                mean=minds.mean(0),
                spread=minds.std(0),
            ),
            counts=counts,
        )

    def knobs(self) -> Mapping[str, Knob]:
        named = {
            "rho": ("Blind uptake / cost", 0.2, 5.0, "", True),
            "source_lifetime": ("A source of food stays for", 20.0, 5000.0, "steps", True),
            "emission_cost": ("Cost of emitting", 0.0, 0.1, "energy", False),
            "minimum": ("Immigrants below", 0.0, 256.0, "bacteria", False),
            "width": ("Width of the world", 16.0, 256.0, "cells", False),
        }
        return {
            name: Knob(
                name,
                label,
                self._values[name],
                low,
                high,
                unit,
                log,
                self._defaults[name],
                "Size" if name == "width" else "Most used",
                step=float(unit in ("bacteria", "cells")),
                new_world=name == "width",
            )
            for name, (label, low, high, unit, log) in named.items()
            if name in self._values
        }

    def turn(self, name: str, value: float) -> None:
        knob = self.knobs().get(name)
        if knob is None or not knob.low <= value <= knob.high:
            limits = "a knob of this world" if knob is None else f"{knob.low} to {knob.high}"
            raise EcologyError(f"knob {name!r}", given=value, expected=limits, do="Turn it less far.")
        self.turned.append((name, value))
        self._values[name] = value

    def paint(self, x: float, y: float, radius: float, amount: float) -> None:
        width = self.settings.width
        if not (0 <= x < width and 0 <= y < width):
            raise EcologyError("place", given=(x, y), expected="a place in the world", do="Paint inside.")
        self.painted.append((x, y, radius, amount))
        at = np.arange(width) + 0.5
        dx, dy = (np.minimum(np.abs(at - c), width - np.abs(at - c)) for c in (x, y))
        self._food[dx[:, None] ** 2 + dy[None, :] ** 2 <= radius**2] += np.float32(amount)

    def life(self, uid: int) -> Life | None:
        life = self._lives.get(uid)
        if life is None or life.died is not None:
            return life
        slot = np.flatnonzero(self._alive & (self._uid == uid))[0]
        return replace(life, energy=float(self._energy[slot]))

    def heir(self, uid: int) -> int | None:
        heirs = [life for life in self._lives.values() if uid in life.ancestors and life.died is None]
        return min(heirs, key=lambda life: life.ancestors.index(uid)).uid if heirs else None

    def at(self, x: float, y: float, radius: float = 2.0) -> int | None:
        slots = np.flatnonzero(self._alive)
        if not len(slots):
            return None
        apart = np.abs(self._xy[slots] - np.array([x, y], np.float32))
        apart = (np.minimum(apart, self.settings.width - apart) ** 2).sum(1)
        nearest = int(apart.argmin())
        return int(self._uid[slots[nearest]]) if apart[nearest] <= radius**2 else None

    def restart(self, seed: int, changes: Mapping[str, float] | None = None) -> None:
        self.restarts.append(seed)
        self._values |= changes or {}
        self.settings = replace(self.settings, width=int(self._values["width"]))
        self._begin(seed)


def _spread(field: np.ndarray, decay: float) -> np.ndarray:
    near = np.roll(field, 1, 0) + np.roll(field, -1, 0) + np.roll(field, 1, 1) + np.roll(field, -1, 1)
    return field * np.float32(1 - decay - 0.8) + near * np.float32(0.2)
