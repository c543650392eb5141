"""Warnings about a plan: a promise that is worth little, or noise that leaves little to be learned."""

import math


def signal_to_noise(multiplier: float, cohort: float, dimension: int, norm: float = 1.0) -> float:
    """Norm of a round's mean update over the norm of the noise in it.

    A rough guide: many rounds average the noise out, and below 1 training can still work, if slowly.

    Args:
        multiplier: standard deviation of the noise on a coordinate of the sum, relative to the clip norm.
        cohort: number of clients in the sum.
        dimension: number of coordinates of an update.
        norm: norm of the mean update relative to the clip norm; 1 if all clients agree and are just clipped.
    """
    return norm * cohort / (multiplier * math.sqrt(dimension))


def clients_for(target: float, clients: int, ratio: float) -> int:
    """The number of clients at which the signal-to-noise ratio is `target`, if it is `ratio` with `clients`.

    The number of rounds and the fraction of clients in each stay the same. The noise multiplier depends only on these, so
    the ratio is proportional to the number of clients.
    """
    return math.ceil(clients * target / ratio)


def cautions(*, delta: float, clients: int, ratio: float | None = None, unit: str = "device") -> list[str]:
    """Warnings about a plan before it is trained, one or two sentences each.

    Args:
        delta: delta of the promise.
        clients: number of units that are protected.
        ratio: signal-to-noise ratio, if known; see `signal_to_noise`.
        unit: `"device"` or `"example"`.
    """
    messages = []
    if delta * clients >= 1:
        messages.append(
            f"A delta of {delta:g} allows one of {clients:,} {unit}s to be exposed whole. Give less than 1 over their "
            "number."
        )
    if ratio is not None and ratio < 1:
        messages.append(
            f"A round's mean update, as long as the clip, is {ratio:.2g} times as long as the noise in it: these rounds "
            f"teach little. From about {clients_for(1, clients, ratio):,} devices on it is longer, with as many rounds "
            f"and the same share of them in each; there are {clients:,}."
        )
    return messages
