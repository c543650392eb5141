"""The interface between a world and its viewers: what the live page and films need, independent of how the world works.

Lengths are in cells and times in steps; energy, food and signal are in the world's own units. The world is a torus of `width` by
`width` cells: `x` and `y` are in `[0, width)`, and what leaves on one side enters on the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

ORIGINS = ("founder", "born", "immigrant")


@dataclass(frozen=True)
class Mind:
    """What is inherited, averaged over the living.

    Attributes:
        kind: `"table"` for probabilities of a tumble by what is sensed; `"rewards"` for rewards by event.
        rows: names of the rows: levels from low to high, or events.
        columns: names of the columns: changes from falling to rising, or a single one.
        mean: float32 `[rows, columns]`, over the living; NaN if there are none.
        spread: float32 `[rows, columns]`, standard deviation over the living.
    """

    kind: Literal["table", "rewards"]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    mean: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Counts:
    """Numbers of individuals, and amounts.

    Attributes:
        population: number of the living.
        births: since the last frame.
        deaths: since the last frame, at any age.
        immigrants: since the last frame; they come in when fewer than the minimum are left.
        food: in the whole world, units.
        signal: in the whole world, units; 0 in a world without one.
    """

    population: int
    births: int
    deaths: int
    immigrants: int
    food: float
    signal: float


@dataclass(frozen=True)
class Frame:
    """The world as it looks now. The arrays belong to the frame and are not written to afterwards.

    Attributes:
        step: of the world, from 0.
        food: float32 `[width, width]`; `food[i, j]` is the cell with `i <= x < i + 1` and `j <= y < j + 1`.
        signal: likewise for the signal; None in a world without one.
        uid: int32 `[n]`, of the living, in any order that the other arrays share.
        x: float32 `[n]`, cells, like `y`.
        y: float32 `[n]`.
        direction: float32 `[n]`, radians, from x towards y.
        energy: float32 `[n]`.
        tumbling: bool `[n]`, whether its last step was a tumble.
        mind: what the living inherited, on average.
        counts: numbers of individuals, and amounts.
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
    """A setting that can be changed, while the world runs or for a new one.

    Attributes:
        name: for `Scene.turn`.
        label: for people.
        value: at present; of a choice, which of `choices` it is.
        low: its minimum.
        high: its maximum.
        unit: of the value, in words; empty for a ratio.
        log: whether the slider is logarithmic; then `low` is above 0.
        default: the value that the world was made with.
        group: its topic.
        step: what its values are multiples of; 0 for any number.
        choices: names of the values, if it is a choice.
        new_world: whether it takes a new world: `Scene.restart` changes it, and `Scene.turn` refuses it.
    """

    name: str
    label: str
    value: float
    low: float
    high: float
    unit: str
    log: bool
    default: float
    group: str
    step: float = 0.0
    choices: tuple[str, ...] = ()
    new_world: bool = False


@dataclass(frozen=True)
class Life:
    """One bacterium, alive or dead.

    Attributes:
        uid: its number, unique in the scene.
        parent: uid of its parent; -1 if it has none.
        founder: uid of the founder or immigrant with which its line began; its own if it has no parent.
        ancestors: uids from its parent towards the founder, at most the nearest 50.
        forebears: number of all its ancestors.
        generation: 0 for founders and immigrants, otherwise one more than the parent's.
        born: the step of its birth.
        died: the step of its death; None while it lives.
        offspring: number of its children so far.
        energy: at present, or when it died.
        mind: float32 `[rows, columns]`, its own, in the form of `Mind.mean`.
        origin: `"founder"`, `"born"` or `"immigrant"`.
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
    origin: Literal["founder", "born", "immigrant"]


class Scene(Protocol):
    """A running world that can be watched and interfered with.

    One thread uses a scene at a time, but not always the thread that made it.

    Attributes:
        settings: of the world, with at least `width` (cells), `capacity` (largest number of the living) and
            `division_energy` (energy at which a bacterium divides).
        seed: from which it was made, or restarted last.
        step: number of steps since it was made or restarted.
    """

    settings: Any
    seed: int
    step: int

    def prepare(self) -> None:
        """Compile what steps need, so that the next one comes at once; `advance` does it otherwise."""
        ...

    def advance(self, steps: int) -> None:
        """Make `steps` steps, 1 to 64; the page asks for powers of two only."""
        ...

    def frame(self) -> Frame:
        """The world as it looks now. Counts of births, deaths and immigrants then restart at 0."""
        ...

    def knobs(self) -> Mapping[str, Knob]:
        """The settings that can be changed, by name, in the order to be shown; those of a group follow each other.

        The page explains these: `rho` (blind uptake / cost, that is `uptake_rate * food_influx / (food_decay * width**2 *
        basal_cost)`; it sets `food_influx`), `source_lifetime` (steps), `emission_cost` (energy; only in worlds with a signal)
        and `minimum` (bacteria). Others are shown by their labels.
        """
        ...

    def turn(self, name: str, value: float) -> None:
        """Set a knob of the running world.

        Raises:
            EcologyError: no such knob, one that takes a new world, or a value out of its range; nothing is changed.
        """
        ...

    def paint(self, x: float, y: float, radius: float, amount: float) -> None:
        """Add food: `amount` units to each cell within `radius` cells of `(x, y)` on the torus.

        Raises:
            EcologyError: a point outside the world, a radius that is not above 0, or an amount below 0.
        """
        ...

    def life(self, uid: int) -> Life | None:
        """The life of an individual that lives or has lived in this scene; None for any other uid."""
        ...

    def heir(self, uid: int) -> int | None:
        """Uid of the living descendant with which the line of an individual goes on; None if it has died out.

        It is one of the fewest generations away, and of these the one with the most energy.
        """
        ...

    def at(self, x: float, y: float, radius: float = 2.0) -> int | None:
        """Uid of the living individual nearest to `(x, y)` on the torus, at most `radius` cells away; None if there is none."""
        ...

    def restart(self, seed: int, changes: Mapping[str, float] | None = None) -> None:
        """Begin again at step 0 from another seed; knobs keep their values, except those in `changes`.

        Raises:
            EcologyError: `seed` is not a whole number from 0 to 2**32 - 1, or the changes make no world; the world goes on.
        """
        ...
