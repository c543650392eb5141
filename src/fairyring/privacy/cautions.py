"""What takes the worth from a promise, or from what is trained under it: a delta too large, noise longer than updates."""

import math


def signal_to_noise(multiplier: float, cohort: float, dimension: int, norm: float = 1.0) -> float:
    """Norm of a round's mean update over the norm of the noise in it.

    A rough guide: many rounds average the noise out, and below 1 training can still work, if slowly.

    Args:
        multiplier: standard deviation of the noise on a coordinate of the sum, over the clip norm.
        cohort: clients in the sum.
        dimension: coordinates of an update.
        norm: of the mean update, over the clip norm. 1 if clients agree and are all just clipped.
    """
    return norm * cohort / (multiplier * math.sqrt(dimension))


def clients_for(target: float, clients: int, ratio: float) -> int:
    """At how many clients a ratio of signal to noise is `target`, where it is `ratio` at so many.

    With the same rounds and the same share of them in each: that share and the rounds are all that the noise multiplier
    depends on, so the ratio grows in proportion to their number.
    """
    return math.ceil(clients * target / ratio)


def cautions(*, delta: float, clients: int, ratio: float | None = None, unit: str = "device") -> list[str]:
    """What to say of a plan before it is trained, a sentence or two each; empty where there is nothing.

    Args:
        delta: of the promise.
        clients: how many it is made to.
        ratio: of signal to noise, if known, as `signal_to_noise` reckons it.
        unit: what those are that it is made to.
    """
    found = []
    if delta * clients >= 1:
        found.append(
            f"A delta of {delta:g} allows one of {clients:,} {unit}s to be exposed whole. Give less than 1 over their "
            "number."
        )
    if ratio is not None and ratio < 1:
        found.append(
            f"A round's mean update, as long as the clip, is {ratio:.2g} times as long as the noise in it: these rounds "
            f"teach little. From about {clients_for(1, clients, ratio):,} devices on it is longer, with as many rounds "
            f"and the same share of them in each; there are {clients:,}."
        )
    return found
