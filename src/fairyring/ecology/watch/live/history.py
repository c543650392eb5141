"""The history of a world since it began, in a bounded number of points, for pages that are opened late."""

from dataclasses import dataclass, field

from fairyring.ecology.watch.scene import Frame

LIMIT = 512  # points


@dataclass
class History:
    """Points `(step, population, food, signal, births, deaths, immigrants)`; the last three are totals since the beginning.

    At `LIMIT` points every other one is dropped and the smallest distance between points is doubled. Totals lose nothing by that,
    since their differences are what happened between the remaining points.
    """

    points: list[tuple[int, int, float, float, int, int, int]] = field(default_factory=list)
    gap: int = 1
    births: int = 0
    deaths: int = 0
    immigrants: int = 0

    def add(self, frame: Frame) -> None:
        """Count a frame. Frames must come in order, and none may be left out."""
        counts = frame.counts
        self.births += counts.births
        self.deaths += counts.deaths
        self.immigrants += counts.immigrants
        if self.points and frame.step < self.points[-1][0] + self.gap:
            return
        self.points.append(
            (
                frame.step,
                counts.population,
                counts.food,
                counts.signal,
                self.births,
                self.deaths,
                self.immigrants,
            )
        )
        if len(self.points) >= LIMIT:
            self.points = self.points[::2]
            self.gap *= 2
