"""One world as a scene: the real engine, a few steps at a time, for those who watch it, film it or replay it."""

import dataclasses
from collections.abc import Mapping
from itertools import product
from math import sqrt

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.lineage import NOBODY
from fairyring.ecology.running import Inhabited, Worker, world_key
from fairyring.ecology.scene import Counts, Frame, Knob, Life, Mind
from fairyring.ecology.settings import World
from fairyring.ecology.state import NUMBERS

READ = 2048  # steps whose logs wait to be read


class LivingWorld:
    """A `fairyring.ecology.scene.Scene` of a world of this room.

    What is turned and painted is not in a run's file: a world that was meddled with is another world.

    Args:
        settings: of it.
        seed, number: its address.
    """

    def __init__(self, settings: World, seed: int = 0, number: int = 0) -> None:
        self.settings = settings
        self._number = number
        self._worker = Worker(settings, 0)
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        self._world = Inhabited.new(self.settings, world_key(seed, number=self._number))
        self._state, self._pending = self._world.state, []
        self._counted, self._known = 0, {}
        self.step = 0

    def advance(self, steps: int) -> None:
        """Take some steps, and return when they are taken."""
        state, logs = self._worker.run(self.settings, self._state, self._world.key, steps)
        self._state = state
        self._pending.extend(logs)
        self.step += steps
        if sum(len(log.numbers) for log in self._pending) >= READ:
            self._read()

    def inhabited(self) -> Inhabited:
        """The world and its history so far."""
        return self._read()

    def _read(self) -> Inhabited:
        if self._pending or self._world.state is not self._state:
            self._world = self._worker.recorded(self.settings, self._world, self._state, self._pending)
            self._state, self._pending = self._world.state, []
        return self._world

    def frame(self) -> Frame:
        """What is to be seen now."""
        world = self._read()
        state, places = world.state, world.living()
        since, self._counted = world.numbers[self._counted :], world.steps
        happened = dict(
            zip(NUMBERS, since.sum(0).tolist() if len(since) else [0] * len(NUMBERS), strict=True)
        )
        return Frame(
            step=self.step,
            food=np.asarray(state.fields["food"]),
            signal=np.asarray(state.fields["signal"]) if "signal" in state.fields else None,
            uid=world.uids(),
            x=state.x[places],
            y=state.y[places],
            direction=np.arctan2(state.uy[places], state.ux[places]).astype(np.float32),
            energy=state.energy[places],
            tumbling=state.tumbled[places],
            mind=self._mind(world.genomes()),
            counts=Counts(
                population=len(places),
                births=happened["births"],
                deaths=happened["deaths"],
                newcomers=happened["newcomers"],
                food=float(state.fields["food"].sum()),
                signal=float(state.fields["signal"].sum()) if "signal" in state.fields else 0.0,
            ),
        )

    def knobs(self) -> Mapping[str, Knob]:
        """What may be turned."""
        now = self.settings
        made = [
            Knob("rho", "rho: blind uptake / cost", now.rho, 0.1, 5.0, "", True),
            Knob("source_lifetime", "a source stays", now.source_lifetime, 10.0, 3000.0, "steps", True),
            Knob(
                "minimum",
                "fewest bacteria",
                now.minimum,
                0.0,
                float(min(400, now.capacity)),
                "bacteria",
                False,
            ),
        ]
        if "signal" in now.chemicals():
            cost = now.knobs()["emission_cost"].item()
            made.insert(2, Knob("emission_cost", "cost of emitting", cost, 0.0, 0.1, "energy", False))
        made.append(Knob("mutation_rate", "mutation", now.mutation_rate, 0.0, 0.2, "an entry", False))
        return {knob.name: knob for knob in made}

    def turn(self, name: str, value: float) -> None:
        """Set a knob.

        Raises:
            EcologyError: no such knob, or a value it may not have.
        """
        knobs = self.knobs()
        if name not in knobs:
            raise EcologyError(name, given="no knob", expected=", ".join(knobs), do="Turn one of them.")
        knob = knobs[name]
        if not knob.low <= value <= knob.high:
            raise EcologyError(
                name, given=value, expected=f"from {knob.low:g} to {knob.high:g}", do="Stay within."
            )
        if name == "rho":
            area = self.settings.food_decay * self.settings.width**2
            name, value = "food_influx", value * self.settings.basal_cost * area / self.settings.uptake_rate
        whole = isinstance(getattr(self.settings, name), int)
        self.settings = dataclasses.replace(self.settings, **{name: round(value) if whole else float(value)})

    def paint(self, x: float, y: float, radius: float, amount: float) -> None:
        """Add food to the cells within `radius` of a place.

        Raises:
            EcologyError: a place outside of the world, a radius not above 0, or an amount below 0.
        """
        cells = self.settings.width
        if not (0 <= x < cells and 0 <= y < cells and radius > 0 and 0 <= amount < float("inf")):
            raise EcologyError(
                "paint",
                given=f"{amount} within {radius} cells of ({x}, {y})",
                expected=f"a place within 0 to {cells}, a radius above 0, an amount from 0",
                do="Correct it.",
            )
        world = self._read()
        away = [_apart(np.arange(cells) + 0.5, at, cells) ** 2 for at in (x, y)]
        food = np.array(world.state.fields["food"])
        food[away[0][:, None] + away[1] <= radius**2] += np.float32(amount)
        state = world.state._replace(fields=world.state.fields | {"food": food})
        self._world, self._state = dataclasses.replace(world, state=state), state

    def life(self, uid: int) -> Life | None:
        """The life of someone; of the dead, energy and mind are what they were when it was last asked for, or NaN."""
        world = self._read()
        lineage = world.lineage
        if not 0 <= uid < len(lineage):
            return None
        died = int(lineage.died[uid])
        if died < 0:
            place = int(np.flatnonzero((lineage.holder == uid) & np.asarray(world.state.alive))[0])
            mind = self._mind(np.asarray(world.state.genomes)[place : place + 1]).mean
            self._known[uid] = (float(world.state.energy[place]), mind)
        energy, mind = self._known.get(uid, (float("nan"), None))
        if mind is None:
            mind = np.full_like(self._mind(np.zeros((1, self.settings.genes), np.float32)).mean, np.nan)
        line = lineage.ancestors(uid)
        parent = int(lineage.parent[uid])
        founder = line[-1] if line else uid
        return Life(
            uid=uid,
            parent=parent,
            founder=founder,
            ancestors=tuple(line[:50]),
            forebears=len(line),
            generation=len(line),
            born=int(lineage.born[uid]),
            died=None if died < 0 else died,
            offspring=int((lineage.parent == uid).sum()),
            energy=energy,
            mind=mind,
            origin="born" if parent != NOBODY else "founder" if lineage.born[uid] == 0 else "newcomer",
        )

    def at(self, x: float, y: float, radius: float = 2.0) -> int | None:
        """Uid of the living one nearest to a place, at most `radius` cells away."""
        world = self._read()
        places, cells = world.living(), self.settings.width
        if not len(places):
            return None
        away = _apart(world.state.x[places], x, cells) ** 2 + _apart(world.state.y[places], y, cells) ** 2
        nearest = int(away.argmin())
        return int(world.uids()[nearest]) if sqrt(away[nearest]) <= radius else None

    def restart(self, seed: int) -> None:
        """Begin again, from another seed.

        Raises:
            EcologyError: `seed` is none.
        """
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise EcologyError(
                "seed", given=repr(seed), expected="a whole number from 0 to 2**32 - 1", do="Correct it."
            )
        self._begin(seed)

    def _mind(self, genomes: np.ndarray) -> Mind:
        """Of each genome what the page shows, averaged: P(tumble) by level and change, or a reward an event."""
        settings = self.settings
        if settings.events:
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
            nothing = np.full((len(rows), len(columns)), np.nan, np.float32)
            return Mind(kind, rows, columns, nothing, nothing)
        return Mind(kind, rows, columns, each.mean(0).astype(np.float32), each.std(0).astype(np.float32))


def _apart(at: np.ndarray, place: float, cells: int) -> np.ndarray:
    """Distance along one axis of the torus."""
    away = np.abs(at - place)
    return np.minimum(away, cells - away)
