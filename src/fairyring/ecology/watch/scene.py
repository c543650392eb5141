"""A world as it is looked at: what the live page and the films need of one, and nothing of how it works.

Lengths are cells, times are steps, energies and amounts of food and signal are the world's own units. The world is a
torus of `width` by `width` cells: `x` and `y` run from 0 up to, not including, `width`, and what leaves on one side comes
in on the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

ORIGINS = ("founder", "born", "newcomer")


@dataclass(frozen=True)
class Mind:
    """What is inherited, averaged over everyone alive.

    Attributes:
        kind: `"table"`, probabilities of a tumble by what is sensed; `"rewards"`, what an event is worth to them.
        rows: names of the rows: of a table the levels, low to high; of rewards the events.
        columns: names of the columns: of a table the changes, falling to rising; of rewards one.
        mean: float32 `[rows, columns]`, over those alive; NaN where nobody is.
        spread: float32 `[rows, columns]`, the standard deviation between them.
    """

    kind: Literal["table", "rewards"]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    mean: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Counts:
    """How many, and how much.

    Attributes:
        population: how many are alive.
        births: since the last frame, like the next two.
        deaths: all of them, at any age.
        newcomers: thrown in at random because fewer than the minimum were left.
        food: in the whole world, units.
        signal: in the whole world, units; 0 where there is none.
    """

    population: int
    births: int
    deaths: int
    newcomers: int
    food: float
    signal: float


@dataclass(frozen=True)
class Frame:
    """What is to be seen now. The arrays belong to the frame: nobody writes to them afterwards.

    Attributes:
        step: of the world, from 0.
        food: float32 `[width, width]`; `food[i, j]` is the cell with `i <= x < i + 1` and `j <= y < j + 1`.
        signal: the same of the signal, or None in a world without one.
        uid: int32 `[n]`, one of everyone alive, in any order that the other arrays keep.
        x: float32 `[n]`, cells, like `y`.
        y: float32 `[n]`.
        direction: float32 `[n]`, radians, from x towards y.
        energy: float32 `[n]`.
        tumbling: bool `[n]`, whether its last step was a tumble.
        mind: what they inherited, on average.
        counts: how many, and how much.
    """

    step: int
    food: np.ndarray
    signal: np.ndarray | None
    uid: np.ndarray
    x: np.ndarray
    y: np.ndarray
    direction: np.ndarray
    energy: np.ndarray
    tumbling: np.ndarray
    mind: Mind
    counts: Counts


@dataclass(frozen=True)
class Knob:
    """One number of the running world that may be turned.

    Attributes:
        name: what `Scene.turn` calls it.
        label: what a person calls it.
        value: now.
        low: the least it may be.
        high: the most it may be.
        unit: of the value, in words; empty for a ratio.
        log: whether equal ratios, and not equal differences, deserve equal lengths of a slider; then `low` is above 0.
    """

    name: str
    label: str
    value: float
    low: float
    high: float
    unit: str
    log: bool


@dataclass(frozen=True)
class Life:
    """One bacterium, alive or dead.

    Attributes:
        uid: its number; no other in this scene has or had it.
        parent: its parent's uid; -1: none, like the next.
        founder: uid of the founder or newcomer that its line began with; its own where it began one.
        ancestors: uids from its parent to the founder, newest first, the newest 50 where there are more.
        forebears: how many ancestors there are in all.
        generation: 0 of founders and newcomers, otherwise one more than the parent's.
        born: the step of its birth.
        died: the step of its death; None while it lives.
        offspring: how many children it has had.
        energy: now, or the last it had.
        mind: float32 `[rows, columns]`, its own, in the form of `Mind.mean`.
        origin: `"founder"`, `"born"` or `"newcomer"`.
    """

    uid: int
    parent: int
    founder: int
    ancestors: tuple[int, ...]
    forebears: int
    generation: int
    born: int
    died: int | None
    offspring: int
    energy: float
    mind: np.ndarray
    origin: Literal["founder", "born", "newcomer"]


class Scene(Protocol):
    """A running world that one can watch and meddle with.

    One thread uses a scene at a time; it is not always the thread that made it.

    Attributes:
        settings: of the world, with at least `width` (cells), `capacity` (the most that can be alive) and
            `division_energy` (from which on one divides).
        seed: that it was made from, or restarted from last.
        step: how many steps the world has taken since it was made or restarted.
    """

    settings: Any
    seed: int
    step: int

    def advance(self, steps: int) -> None:
        """Take `steps` steps, 1 to 64, and return when they are taken; the page asks for powers of two only."""
        ...

    def frame(self) -> Frame:
        """What is to be seen now; it begins the counting of births, deaths and newcomers anew."""
        ...

    def knobs(self) -> Mapping[str, Knob]:
        """What may be turned, by name, in the order to be shown.

        The page explains these in words: `rho` (blind uptake / cost, which is `uptake_rate * food_influx /
        (food_decay * width**2 * basal)`, and turns `food_influx`), `source_lifetime` (steps), `emission_cost` (units of
        energy; only of worlds with a signal) and `minimum` (bacteria). Others are shown by their labels.
        """
        ...

    def turn(self, name: str, value: float) -> None:
        """Set a knob of the running world.

        Raises:
            EcologyError: no such knob, or a value that it may not have; nothing is changed.
        """
        ...

    def paint(self, x: float, y: float, radius: float, amount: float) -> None:
        """Add food: `amount` units a cell to the cells within `radius` cells of `(x, y)`, across the seam too.

        Raises:
            EcologyError: a place outside of the world, a radius that is not above 0 or an amount below 0.
        """
        ...

    def life(self, uid: int) -> Life | None:
        """The life of someone who lives or has lived in this scene; None of anyone else."""
        ...

    def at(self, x: float, y: float, radius: float = 2.0) -> int | None:
        """Uid of the living one nearest to `(x, y)` on the torus, at most `radius` cells away; None if nobody is."""
        ...

    def restart(self, seed: int) -> None:
        """Begin the same world again at step 0 from another seed; knobs stay as they were turned.

        Raises:
            EcologyError: `seed` is not a whole number from 0 to 2**32 - 1.
        """
        ...
