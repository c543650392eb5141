"""The course of a world since it began, in a bounded number of points: late readers see all of it."""

from dataclasses import dataclass, field

from fairyring.ecology.watch.scene import Frame

MOST = 512


@dataclass
class History:
    """Points `(step, population, food, signal, births, deaths, immigrants)`; the last three since the beginning.

    When there are `MOST` points every other is dropped and the least distance between two is doubled. Sums since the
    beginning lose nothing by that: their differences are what happened between the points that are left.
    """

    points: list[tuple[int, int, float, float, int, int, int]] = field(default_factory=list)
    gap: int = 1
    births: int = 0
    deaths: int = 0
    immigrants: int = 0

    def add(self, frame: Frame) -> None:
        """Count a frame; frames come in the order of their steps, and no frame is left out."""
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
        if len(self.points) >= MOST:
            self.points = self.points[::2]
            self.gap *= 2
