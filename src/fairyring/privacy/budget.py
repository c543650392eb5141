"""A plan's privacy budget: epsilon and delta, for every device or every example."""

import math
from dataclasses import dataclass

from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError
from fairyring.privacy.participation import UNITS


@dataclass(frozen=True)
class Budget:
    """A promise of (epsilon, delta)-differential privacy to every device, or to every example, over the whole run.

    Args:
        epsilon: largest epsilon that all releases together may spend. `inf` promises nothing: spending is only recorded.
        delta: the probability with which epsilon may not hold; well below 1 / the number of devices, or of examples.
        rounds: number of rounds for which the noise is calibrated, if the noise stage has no multiplier.
        population: with a uniform cohort, claims amplification by sampling without replacement from exactly this many
            devices. (A simulation can keep that claim; devices that select themselves cannot.)
        unit: whose data is protected. `"device"`: all data of a client, by noise in the sum of a round. `"example"`: one
            example, by noise in every local step (`LocalTraining(examples=...)`); for a few clients that hold many people's
            data, such as hospitals. A person with several examples is not covered as a whole.

    Raises:
        PlanError: epsilon is not above 0, delta is not between 0 and 1, rounds or population is not a positive integer,
            unit is unknown, or a population is given for examples, which are not drawn that way.
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
                    + (" and below 1" if name == "delta" else "; inf to only record"),
                    do="Try 8.0."
                    if name == "epsilon"
                    else "Try 1e-6, or less than 1 / the number of devices.",
                )
        for name in ("rounds", "population"):
            value = getattr(self, name)
            if value is not None:
                do = f"Give {name} as a whole number, or leave it out."
                object.__setattr__(self, name, whole_number(f"Budget {name}", value, do=do))
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
                expected="none: examples are protected whichever clients take part, and are sampled into batches, not cohorts",
                do="Leave population out, and give LocalTraining a rate.",
            )
