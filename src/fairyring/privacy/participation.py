"""Participation: what an accountant assumes about who takes part in which rounds."""

from typing import Any

import msgspec

UNITS = "device", "example"  # whose data a promise protects


class Participation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """What is known in advance about the rounds in which one device takes part.

    Each kind states its assumption as text (`sampling`), and the neighbouring relation for which a guarantee then holds
    (`relation`).
    """


class PoissonSampled(Participation, frozen=True, tag="poisson"):
    """Each device takes part in each round independently with probability `rate`, unseen by anyone.

    `aside` is the fraction of delta reserved for the event that a round reveals how many took part, because its cohort was
    cut or its sum failed. The accountant spends the rest.
    """

    rate: float
    aside: float = 0.0

    @property
    def sampling(self) -> str:
        return f"Poisson sampling with rate {self.rate:.6g}, which nobody who sees the releases can observe"

    @property
    def relation(self) -> str:
        return "add or remove one device"


class FixedSize(Participation, frozen=True, tag="fixed_size"):
    """In each round, `size` of `population` devices are drawn uniformly without replacement, unseen by anyone."""

    size: int
    population: int

    @property
    def sampling(self) -> str:
        return (
            f"{self.size} of {self.population} devices drawn without replacement in each round, "
            "which nobody who sees the releases can observe"
        )

    @property
    def relation(self) -> str:
        return "replace one device"


class AtMost(Participation, frozen=True, tag="at_most"):
    """A device takes part at most `times` times, at least `separation` rounds apart; anybody may know when.

    `times` is None if only the number of rounds bounds it.
    """

    times: int | None = None
    separation: int = 1

    def maximum(self, rounds: int) -> int:
        """Largest number of rounds, of so many, in which one device can take part."""
        apart = -(-rounds // self.separation)
        return apart if self.times is None else min(self.times, apart)

    @property
    def sampling(self) -> str:
        often = "in every round" if self.times is None else f"{self.times} times"
        if self.separation > 1:
            often = "" if self.times is None else f"{often} and "
            often += f"once in {self.separation} rounds"
        return f"no amplification by sampling: a device may take part {often}"

    @property
    def relation(self) -> str:
        return "one device's data replaced by none (zero-out)"


AnyParticipation = PoissonSampled | FixedSize | AtMost


def relation_in(participation: AnyParticipation, unit: str) -> str:
    """The neighbouring relation for which a guarantee for this unit holds."""
    if unit == "device":
        return participation.relation
    if isinstance(participation, FixedSize):
        return "replace one example"
    # The others keep their places, and so their dropout keys.
    return "one example replaced by none (zero-out)"


def sampling_in(participation: AnyParticipation, rounds: int, unit: str = "device") -> str:
    """The assumption on participation as text, and what it means for so many rounds.

    For examples, a participation says in which batches an example may be if its client is in all rounds it may be in.
    """
    if unit == "example" and isinstance(participation, PoissonSampled):
        return (
            f"each example in each step's batch by its own coin, of probability {participation.rate:.6g}, which nobody who "
            "sees the releases can observe"
        )
    if unit == "example" and isinstance(participation, AtMost):
        often = "" if participation.separation == 1 else f", of one round in {participation.separation}"
        return (
            "no amplification by sampling: an example is in one batch of each pass over its client's examples"
            f"{often}, and anybody may know in which"
        )
    if isinstance(participation, AtMost) and (
        participation.separation > 1 or participation.times is not None
    ):
        return f"{participation.sampling}, so in at most {participation.maximum(rounds)} of {rounds}"
    return participation.sampling


def describe(participation: AnyParticipation) -> dict[str, Any]:
    """The participation as plain values."""
    return msgspec.to_builtins(participation)
