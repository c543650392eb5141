"""What the owner's page is given. Times are seconds since 1970, UTC; texts are whole sentences or phrases that a person reads as they are."""

import msgspec


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """Examples of one source that the device holds.

    Attributes:
        source: where they are from.
        consent: what their owner has agreed to, in words.
        number: how many there are.
        oldest: when the oldest was made; None without any.
        kept_until: when the device deletes the oldest by itself; None if only a number limits them.
    """

    source: str
    consent: str
    number: int
    oldest: float | None = None
    kept_until: float | None = None


class Participation(msgspec.Struct, frozen=True, kw_only=True):
    """A round that the device took part in.

    Attributes:
        when: it ended for this device.
        plan: name of the plan.
        author: who signed it: a name that the owner gave the key, or the key's first digits.
        round: its number.
        outcome: in words, such as "in the sum" or "left out: the phone was unplugged".
        bytes_up: that left the device.
        masked: whether they left it under masks.
        epsilon: what the plan promises to a device, in words; None without a promise.
    """

    when: float
    plan: str
    author: str
    round: int
    outcome: str
    bytes_up: int
    masked: bool
    epsilon: str | None = None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What the device did not do, and why."""

    when: float
    what: str
    why: str


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Over the life of the device: rounds it took part in, bytes it sent, bytes it received."""

    rounds: int
    bytes_up: int
    bytes_down: int


class OwnerState(msgspec.Struct, frozen=True, kw_only=True):
    """All that the owner's page shows.

    Attributes:
        device: the first digits of the device's key.
        name: of the device.
        service: address of the service; empty if it has none.
        on: whether the owner lets it take part.
        doing: what it does now, such as "waiting to be asked".
        eligible: whether it may take part now, such as idle and charging.
        why_not: what it waits for.
        examples: what it holds, by source.
        taken_part: the newest first.
        refused: the newest first.
        totals: over its life.
        caps: how often it takes part at most, and what it may use, each in a sentence.
        promises: of the service and of plans, each in a sentence.
    """

    device: str
    name: str
    service: str
    on: bool
    doing: str
    eligible: bool
    why_not: tuple[str, ...]
    examples: tuple[Holding, ...]
    taken_part: tuple[Participation, ...]
    refused: tuple[Refusal, ...]
    totals: Totals
    caps: tuple[str, ...]
    promises: tuple[str, ...]
