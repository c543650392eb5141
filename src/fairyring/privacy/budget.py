"""What a plan promises: so much epsilon, at so small a delta, to every device or to every example."""

import math
from dataclasses import dataclass

from fairyring.core.errors import PlanError
from fairyring.privacy.participation import UNITS


@dataclass(frozen=True)
class Budget:
    """A promise of differential privacy to every device, or to every example, kept over the whole run.

    Args:
        epsilon: the most that all releases together may spend. `inf` promises nothing: what is spent is only counted.
        delta: the probability that is left out; well below 1 / the number of devices, or of examples.
        rounds: the rounds the noise is calibrated for, where the noise stage has no multiplier of its own.
        population: of a uniform cohort: claim amplification by sampling without replacement from exactly so many
            devices (a simulation can keep that claim; devices that choose themselves cannot).
        unit: whose data is protected. `"device"`: all that a client holds, by noise in the sum of a round. `"example"`: one
            row of it, by noise in every local step (`LocalTraining(examples=...)`): for few clients that hold many people's
            data, such as hospitals. Who has several rows is not covered as a whole.

    Raises:
        PlanError: epsilon is not above 0, delta not between 0 and 1, rounds or population not whole and positive, or unit
            another word; or a population for examples, which are not drawn that way.
    """

    epsilon: float
    delta: float
    rounds: int | None = None
    population: int | None = None
    unit: str = "device"

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("epsilon", self.epsilon, 0.0, math.inf),
            ("delta", self.delta, 0.0, 1.0),
        ):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low < value <= high or (name == "delta" and value >= 1):
                raise PlanError(
                    f"Budget {name}",
                    given=repr(value),
                    expected="a number above 0"
                    + (" and below 1" if name == "delta" else "; inf to only count"),
                    do="Try 8.0."
                    if name == "epsilon"
                    else "Try 1e-6, or less than 1 / the number of devices.",
                )
        for name in ("rounds", "population"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise PlanError(
                    f"Budget {name}",
                    given=repr(value),
                    expected="a whole number >= 1",
                    do=f"Give {name} as a whole number, or leave it out.",
                )
        if self.unit not in UNITS:
            raise PlanError(
                "Budget unit",
                given=repr(self.unit),
                expected=" or ".join(map(repr, UNITS)),
                do="Choose one of them.",
            )
        if self.unit == "example" and self.population is not None:
            raise PlanError(
                "Budget population",
                given=f"{self.population}, for a promise to every example",
                expected="none: examples are protected whichever clients take part, and are drawn into batches, not cohorts",
                do="Leave population out, and give LocalTraining a rate.",
            )
