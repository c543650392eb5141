"""A world as a scene: it runs on the real engine, a few steps at a time, to be watched or filmed."""

from collections.abc import Mapping
from itertools import product
from math import sqrt

import jax
import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.history import NOBODY, Worker, WorldRun, world_key
from fairyring.ecology.watch.family import Family, Growing
from fairyring.ecology.watch.knobs import knobs_of, turned
from fairyring.ecology.watch.scene import Counts, Frame, Knob, Life, Mind
from fairyring.ecology.world import AMOUNTS, NUMBERS, State, World, founded

READ = 2048  # steps after which pending logs are decoded
HISTORY = 1 << 17  # steps whose numbers are stored: nine megabytes
ANCESTORS = 50  # number of ancestors in a `Life`, the nearest ones


class LivingWorld:
    """A `Scene` of a world of the ecology.

    Turned knobs and painted food are not in a run file: a world that somebody has interfered with cannot be replayed.

    A frame costs the same at any age. The family tree grows with age, by 24 bytes for each individual.

    Args:
        settings: of the world.
        seed, number: its address.
        history: steps whose numbers are stored for `world_run`; a world that gets older drops them all.

    Attributes:
        settings: of the world, with the knobs as they were last turned.
        seed: from which it began, or was restarted.
        step: number of steps since then.
    """

    def __init__(self, settings: World, seed: int = 0, number: int = 0, *, history: int = HISTORY) -> None:
        self.settings = self._begun = settings
        self._number, self._stored = number, history
        self._worker: Worker | None = None
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        key = world_key(seed, number=self._number)
        # The state for the next step, and the last one that was read, as NumPy arrays; the same object at first.
        self._state = self._seen = founded(self.settings, key)
        self._key = np.asarray(jax.random.key_data(key))
        self._family = Family(int(np.asarray(self._seen.alive).sum()), self.settings.capacity)
        self._numbers = Growing(np.zeros((0, len(NUMBERS)), np.int32))
        self._amounts = Growing(np.zeros((0, len(AMOUNTS)), np.float32))
        self._happened = np.zeros(len(NUMBERS), np.int64)  # since the last frame
        self._pending, self._known = [], {}
        self.seed, self.step, self._read_steps = seed, 0, 0

    def prepare(self) -> None:
        """Compile the step, if it is not compiled yet. `advance` does it, too, but whoever waits for it may want to be told."""
        self._running()

    def _running(self) -> Worker:
        if self._worker is None:
            self._worker = Worker(self.settings, 0)
        return self._worker

    def advance(self, steps: int) -> None:
        """Make some steps."""
        state, logs = self._running().run(self.settings, self._state, self._key, steps)
        self._state = state
        self._pending.extend(logs)
        self.step += steps
        if self.step - self._read_steps >= READ:
            self._read()

    def world_run(self) -> WorldRun:
        """A copy of the world and its history so far.

        Raises:
            EcologyError: it has made more steps than it stores.
        """
        seen = self._read()
        if self.step > self._stored:
            raise EcologyError(
                "history",
                given=f"a world of {self.step} steps",
                expected=f"at most {self._stored}, the steps whose numbers are stored",
                do="Make the world with a longer `history`.",
            )
        return WorldRun(
            key=self._key,
            state=seen,
            lineage=self._family.lineage(),
            numbers=self._numbers.rows.copy(),
            amounts=self._amounts.rows.copy(),
        )

    def _read(self) -> State:
        """The state as NumPy arrays, after pending logs were added to the family tree and to the history."""
        if self._pending:
            # Decoded as a world that starts now, with individuals numbered by place, so that the past is not copied.
            now = WorldRun(
                key=self._key,
                state=self._seen,
                lineage=self._family.places(),
                numbers=np.zeros((0, len(NUMBERS)), np.int32),
                amounts=np.zeros((0, len(AMOUNTS)), np.float32),
            )
            now = self._running().recorded(self.settings, now, self._state, self._pending)
            self._family.add(now.lineage, self._read_steps)
            self._happened += now.numbers.sum(0)
            if self.step > self._stored:
                self._numbers, self._amounts = (Growing(of[:0]) for of in (now.numbers, now.amounts))
            else:
                self._numbers.add(now.numbers)
                self._amounts.add(now.amounts)
            self._state = self._seen = now.state
            self._pending, self._read_steps = [], self.step
        return self._seen

    def frame(self) -> Frame:
        """The world as it looks now."""
        state = self._read()
        places = np.flatnonzero(state.alive)
        happened = dict(zip(NUMBERS, self._happened.tolist(), strict=True))
        self._happened[:] = 0
        return Frame(
            step=self.step,
            food=np.asarray(state.fields["food"]),
            signal=np.asarray(state.fields["signal"]) if "signal" in state.fields else None,
            uid=self._family.holder[places],
            x=state.x[places],
            y=state.y[places],
            direction=np.arctan2(state.uy[places], state.ux[places]).astype(np.float32),
            energy=state.energy[places],
            tumbling=state.tumbled[places],
            mind=self._mind(state.genomes[places]),
            counts=Counts(
                population=len(places),
                births=happened["births"],
                deaths=happened["deaths"],
                immigrants=happened["immigrants"],
                food=float(state.fields["food"].sum()),
                signal=float(state.fields["signal"].sum()) if "signal" in state.fields else 0.0,
            ),
        )

    def knobs(self) -> Mapping[str, Knob]:
        """The settings that can be changed, while the world runs or for a new one."""
        return knobs_of(self.settings, self._begun)

    def turn(self, name: str, value: float) -> None:
        """Set a knob.

        Raises:
            EcologyError: no such knob, one that takes a new world, or a value out of its range.
        """
        self.settings = turned(self.settings, self.knobs(), {name: value}, anew=False)

    def paint(self, x: float, y: float, radius: float, amount: float) -> None:
        """Add food to the cells within `radius` of a point.

        Raises:
            EcologyError: a point outside the world, a radius not above 0, or an amount below 0.
        """
        cells = self.settings.width
        if not (0 <= x < cells and 0 <= y < cells and radius > 0 and 0 <= amount < float("inf")):
            raise EcologyError(
                "paint",
                given=f"{amount} within {radius} cells of ({x}, {y})",
                expected=f"a point within 0 to {cells}, a radius above 0, an amount from 0",
                do="Give one that is.",
            )
        seen = self._read()
        away = [_apart(np.arange(cells) + 0.5, at, cells) ** 2 for at in (x, y)]
        food = np.array(seen.fields["food"])
        food[away[0][:, None] + away[1] <= radius**2] += np.float32(amount)
        self._state = self._seen = seen._replace(fields=seen.fields | {"food": food})

    def life(self, uid: int) -> Life | None:
        """The life of an individual. For a dead one, energy and mind are those of the last call, or NaN."""
        state, family = self._read(), self._family
        if not 0 <= uid < len(family):
            return None
        died = family.died(uid)
        if died < 0:
            place = int(np.flatnonzero((family.holder == uid) & state.alive)[0])
            self._known[uid] = (float(state.energy[place]), self._mind(state.genomes[place : place + 1]).mean)
        energy, mind = self._known.get(uid, (float("nan"), None))
        if mind is None:
            mind = np.full_like(self._mind(np.zeros((1, self.settings.genes), np.float32)).mean, np.nan)
        parent, generation, born = family.parent(uid), family.generation(uid), family.born(uid)
        return Life(
            uid=uid,
            parent=parent,
            founder=family.founder(uid),
            ancestors=family.ancestors(uid, ANCESTORS),
            forebears=generation,
            generation=generation,
            born=born,
            died=None if died < 0 else died,
            offspring=family.offspring(uid),
            energy=energy,
            mind=mind,
            origin="born" if parent != NOBODY else "founder" if born == 0 else "immigrant",
        )

    def heir(self, uid: int) -> int | None:
        """Uid of the living descendant with which the line of an individual goes on; None if it has died out.

        It is one of the fewest generations away, and of these the one with the most energy.
        """
        state, family = self._read(), self._family
        if not 0 <= uid < len(family):
            return None
        places = np.flatnonzero(state.alive)
        away = family.generations_from(uid, family.holder[places])
        heirs = np.flatnonzero(away > 0)
        if not len(heirs):
            return None
        best = heirs[np.lexsort((-state.energy[places[heirs]], away[heirs]))[0]]
        return int(family.holder[places[best]])

    def at(self, x: float, y: float, radius: float = 2.0) -> int | None:
        """Uid of the living individual nearest to a point, at most `radius` cells away."""
        state, cells = self._read(), self.settings.width
        places = np.flatnonzero(state.alive)
        if not len(places):
            return None
        away = _apart(state.x[places], x, cells) ** 2 + _apart(state.y[places], y, cells) ** 2
        nearest = int(away.argmin())
        return int(self._family.holder[places[nearest]]) if sqrt(away[nearest]) <= radius else None

    def restart(self, seed: int, changes: Mapping[str, float] | None = None) -> None:
        """Begin again, from another seed, or as another world.

        Args:
            seed: of the new beginning.
            changes: value by knob, also of those that take a new world. The next step is compiled first if the program changes.

        Raises:
            EcologyError: `seed` is not a whole number from 0 to 2**32 - 1, or the changes make no world.
        """
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise EcologyError(
                "seed",
                given=repr(seed),
                expected="a whole number from 0 to 2**32 - 1",
                do="Give one that is.",
            )
        settings = turned(self.settings, self.knobs(), changes or {}, anew=True)
        if settings.structure() != self.settings.structure():
            self._worker = None
        self.settings = settings
        self._begin(seed)

    def _mind(self, genomes: np.ndarray) -> Mind:
        """What the page shows of genomes, averaged: P(tumble) by level and change, or the reward for each event."""
        settings = self.settings
        if settings.policy.reward is not None:
            each = genomes[:, : len(settings.events), None]
            rows, columns, kind = tuple(event.name for event in settings.events), ("reward",), "rewards"
        else:
            first, *others = settings.senses
            rows = first.labels
            columns = tuple(", ".join(of) for of in product(*(sense.labels for sense in others)))
            tables = genomes.reshape(len(genomes), settings.states, settings.actions).astype(np.float64)
            odds = np.exp(settings.knobs()["beta"] * (tables - tables.max(2, keepdims=True)))
            tumbling = odds[:, :, 1::2].sum(2) / odds.sum(2)
            each, kind = tumbling.reshape(len(genomes), len(rows), len(columns)), "table"
        if not len(genomes):
            unknown = np.full((len(rows), len(columns)), np.nan, np.float32)
            return Mind(kind, rows, columns, unknown, unknown)
        return Mind(kind, rows, columns, each.mean(0).astype(np.float32), each.std(0).astype(np.float32))


def _apart(at: np.ndarray, place: float, cells: int) -> np.ndarray:
    """Distance along one axis of the torus."""
    away = np.abs(at - place)
    return np.minimum(away, cells - away)
