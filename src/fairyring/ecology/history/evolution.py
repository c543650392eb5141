"""Evolution in several worlds at once: the experiment of this room."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.history.run_file import Kept, read_run, refuse_existing, refuse_other, save
from fairyring.ecology.history.running import ADDRESSES, Pace, WorldRun, addressed, advance, whole, world_key
from fairyring.ecology.world import AMOUNTS, FOUNDING, NUMBERS, World

SAVED = 20.0  # seconds between two versions of a run's file


@dataclass(frozen=True)
class Evolution(Kept):
    """What became of some worlds.

    Attributes:
        settings: of each of them.
        seed: of all of them.
        numbers: of the worlds; a world is addressed by seed and number, whatever others there are.
        worlds: as they are now, with their histories.
        seconds: that running took, compiling apart; of all sittings together.
        compiling: seconds of that.
    """

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """By name `[worlds, steps]`: counts as int32, energies and flows as float32. See `NUMBERS` and `AMOUNTS`."""
        named = {}
        for names, field in ((NUMBERS, "numbers"), (AMOUNTS, "amounts")):
            rows = np.stack([getattr(world, field)[: self.steps] for world in self.worlds])
            named |= {name: rows[:, :, i] for i, name in enumerate(names) if name != "short"}
        return named

    @property
    def agent_steps(self) -> int:
        """Steps of everybody together."""
        return sum(int(world.numbers[:, 0].sum()) for world in self.worlds)

    def until(
        self,
        steps: int,
        *,
        out: str | os.PathLike[str] | None = None,
        cores: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        watch: Callable[["Evolution"], None] | None = None,
    ) -> "Evolution":
        """These worlds run on until each has made `steps` steps: to the same bits as if they never had stopped.

        Interrupted (Ctrl-C), it first keeps in `out` what was made.

        Args: as of `evolve`, but that `out` may be a file of this run, which is replaced; and
            watch: called now and then with the run as it is so far.

        Raises:
            EcologyError: no such number of steps.
            RunError: `out` is there, and is not this run or has more steps than it.
            StorageError: it cannot be written.
        """
        steps = _steps(steps)
        if out is not None:
            refuse_other(self, Path(out))
        todo, saved, pace, latest = (
            sum(max(0, steps - world.steps) for world in self.worlds),
            monotonic(),
            Pace(),
            self,
        )

        def heard(worlds: Sequence[WorldRun], made: int) -> None:
            nonlocal saved, latest
            latest = self.reached(worlds, pace)
            if progress is not None:
                progress(made, todo)
            if watch is not None:
                watch(latest)
            if out is not None and monotonic() - saved > SAVED:
                save(latest, out)
                saved = monotonic()

        asked = progress is not None or watch is not None or out is not None
        try:
            worlds = self.worlds
            if todo:
                worlds, _ = advance(
                    self.settings, self.worlds, steps, cores=cores, watch=heard if asked else None, pace=pace
                )
        except KeyboardInterrupt:
            if out is not None and latest is not self:
                save(latest, out)
            raise
        after = self.reached(worlds, pace)
        if out is not None:
            save(after, out)
        return after

    def reached(self, worlds: Sequence[WorldRun], pace: Pace) -> "Evolution":
        """This run with its worlds as they are after a sitting, or in it, that took `pace` so far."""
        return dataclasses.replace(
            self,
            worlds=tuple(worlds),
            seconds=self.seconds + pace.running,
            compiling=self.compiling + pace.compiling,
        )


def evolve(
    settings: World,
    worlds: int | Sequence[int] = 16,
    steps: int = 8000,
    seed: int = 0,
    *,
    out: str | os.PathLike[str] | None = None,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evolution:
    """Let worlds evolve, each by itself.

    The unit of replication is a world: individuals of one are relatives and neighbours.

    Args:
        settings: a `World1` or a `World2`.
        worlds: how many, or their numbers. World 7 of a seed is the same world alone and among others, to the bit.
        steps: of each.
        seed: of all chance.
        out: a file to keep the run in; it is saved now and then, and can be gone on with (`load`, `Evolution.until`).
        cores: how many to use; all by default. It changes nothing but the time.
        progress: called now and then with steps made and steps to make, of all worlds together.

    Raises:
        EcologyError: no worlds, or steps, a seed or a number of a world that are not whole numbers from 0, or too large.
        RunError: `out` is there already.
        StorageError: it cannot be written.
    """
    numbers, steps, seed = _numbers(worlds), _steps(steps), addressed("seed", seed)
    if out is not None:
        refuse_existing(Path(out))
    start = tuple(WorldRun.new(settings, world_key(seed, number)) for number in numbers)
    return Evolution(settings, seed, numbers, start).until(steps, out=out, cores=cores, progress=progress)


def _numbers(worlds: Any) -> tuple[int, ...]:
    """The numbers of the worlds that are asked for, by how many or by number."""
    many = isinstance(worlds, Sequence | np.ndarray) and not isinstance(worlds, str | bytes)
    if not many:
        return tuple(range(whole("worlds", worlds, 1, ADDRESSES)))
    numbers = tuple(addressed("world", number) for number in worlds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise EcologyError(
            "worlds", given=worlds, expected="one or more different numbers", do="Ask for at least one."
        )
    return numbers


def _steps(steps: Any) -> int:
    return whole("steps", steps, 0, FOUNDING)


def load(path: str | os.PathLike[str], settings: World | None = None) -> Evolution:
    """Read a run.

    Args:
        path: of its file.
        settings: needed where the run has senses, events or a policy of one's own.

    Raises:
        RunError: there is no such file.
        RunDamaged: it is cut short, was changed, or is no run.
        RunMismatch: another version made it, or it is of other settings than those given, or needs them.
    """
    return Evolution(**vars(read_run(path, settings)))
