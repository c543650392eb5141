"""The neighbour graph of SecAgg+: who shares masks and secrets with whom, and how dense it must be.

Bell, Bonawitz, Gascón, Lepoint, Raykova: "Secure single-server aggregation with (poly)logarithmic overhead" (2020),
with the bounds of its appendix for 40 bits of security and 20 bits of correctness.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.secagg._chances import factorials, lower_quantile, upper_quantile, upper_tail
from fairyring.secagg._committee import NOBODY, Committee, smallest_committee
from fairyring.secagg._suite import derive

Threat = Literal["semi_honest", "semi_malicious"]

SECURITY_BITS = 40
CORRECTNESS_BITS = 20
MAXIMUM_RATES = 0.9  # together
COMPLETE_UP_TO = 60


class GraphParameters(NamedTuple):
    """Number of neighbours of each device, and how many of them are needed to recover its secrets."""

    degree: int
    threshold: int


def graph_parameters(
    clients: int, adversarial_rate: float, dropout_rate: float, adversary: Threat = "semi_honest"
) -> GraphParameters:
    """The published parameters: the smallest degree, and a threshold, at which the sum is secret and is recovered.

    In a random graph of this degree, except with probability 2^-40, no honest device is cut off from the others and no
    neighbourhood contains a threshold of adversaries. Except with probability 2^-20, a threshold of devices stays in every
    neighbourhood. Which devices vanish must not depend on the graph; for a server that decides this, see `session_graph`.

    Args:
        clients: devices in a session.
        adversarial_rate: fraction of them that work together with the server.
        dropout_rate: fraction that may vanish.
        adversary: `"semi_honest"`: the server follows the protocol and looks at all it sees. `"semi_malicious"`: it
            may also show different devices different sets of survivors.

    Raises:
        PlanError: no degree below `clients` is enough. The error names the nearest rates that would work.
    """
    _check(clients, adversarial_rate, dropout_rate, adversary)
    expected = "rates for which a neighbour graph is both secure and able to recover"
    return _chosen(_search, clients, adversarial_rate, dropout_rate, adversary, expected)


def complete_graph(
    clients: int, adversarial_rate: float, dropout_rate: float, adversary: Threat = "semi_honest"
) -> GraphParameters:
    """The complete graph: for small cohorts, where nothing is left to chance.

    The threshold is one more than the adversaries hold together. With a semi-malicious server it is one more than they
    and half of the others hold, so that two different sets of survivors cannot both reach it.

    Raises:
        PlanError: as `graph_parameters`.
    """
    _check(clients, adversarial_rate, dropout_rate, adversary)
    threshold, staying = _ends(clients, adversarial_rate, dropout_rate, adversary)
    expected = f"at least {threshold} neighbours that stay; there may be only {max(staying, 0)}"
    return _chosen(_complete, clients, adversarial_rate, dropout_rate, adversary, expected)


def session_graph(
    clients: int, adversarial_rate: float, dropout_rate: float, adversary: Threat
) -> GraphParameters:
    """The parameters that server and devices compute for a session of `clients` devices.

    Up to 60 devices form a complete graph. With a semi-honest server, more use `graph_parameters`. A semi-malicious server
    can decide who vanished after it has seen the ring; degree and threshold are then such that it cannot cut the ring
    that way. If no sparse ring is enough, the graph is complete.

    Raises:
        PlanError: as `graph_parameters` and `complete_graph`.
    """
    if clients <= COMPLETE_UP_TO:
        return complete_graph(clients, adversarial_rate, dropout_rate, adversary)
    if adversary == "semi_honest":
        return graph_parameters(clients, adversarial_rate, dropout_rate, adversary)
    _check(clients, adversarial_rate, dropout_rate, adversary)
    expected = "rates for which a neighbour graph is both secure and able to recover"
    return _chosen(_agreeing, clients, adversarial_rate, dropout_rate, adversary, expected)


def session_committee(
    clients: int, adversarial_rate: float, dropout_rate: float, adversary: Threat
) -> Committee:
    """The committee of a session; empty if the server is semi-honest or the graph is complete.

    Raises:
        PlanError: as `session_graph`.
    """
    graph = session_graph(clients, adversarial_rate, dropout_rate, adversary)
    if adversary == "semi_honest" or graph.degree == clients - 1:
        return NOBODY
    return _committee(clients, adversarial_rate, dropout_rate) or NOBODY


def adversaries_in(devices: int, adversarial_rate: float) -> int:
    """How many of a session's devices may be adversaries. All of them may be in the sum: they need not vanish."""
    return _part(adversarial_rate, devices)


class Ring:
    """The neighbour graph of a session: a ring in an order that nobody can choose, each device joined to those around it.

    Args:
        root: the session's root, a hash of all adverts.
        beacon: public randomness from after the adverts were frozen, or empty.
        adverts: hashes of the adverts, by index.
        degree: number of neighbours of each device.
    """

    def __init__(self, root: bytes, beacon: bytes, adverts: Sequence[bytes], degree: int) -> None:
        key = derive(root + beacon, root, b"ring")
        order = sorted(range(len(adverts)), key=lambda i: hashlib.sha256(key + adverts[i]).digest())
        self._order, self.degree = order, degree
        self._at = {index: at for at, index in enumerate(order)}

    def neighbours(self, index: int) -> list[int]:
        """Indices of a device's neighbours, in order of their place in its neighbourhood (the first is at place 1)."""
        n, at = len(self._order), self._at[index]
        after = -(-self.degree // 2)
        offsets = [*range(1, after + 1), *range(n - (self.degree - after), n)]
        return [self._order[(at + offset) % n] for offset in offsets]

    def place(self, holder: int, owner: int) -> int:
        """The place of `holder`, 1 to `degree`, in the neighbourhood of `owner`, whose shares it holds."""
        n = len(self._order)
        offset = (self._at[holder] - self._at[owner]) % n
        return offset if offset <= -(-self.degree // 2) else offset - (n - 1 - self.degree)

    def committee(self, size: int) -> list[int]:
        """Indices of the first devices on the ring: in an order that nobody can choose, any are as good."""
        return self._order[:size]


def _check(clients: int, adversarial_rate: float, dropout_rate: float, adversary: str) -> None:
    if isinstance(clients, bool) or not isinstance(clients, int) or clients < 2:
        raise PlanError(
            "secure sum clients", given=repr(clients), expected="at least 2 devices", do="Let more take part."
        )
    for name, rate in (("adversarial_rate", adversarial_rate), ("dropout_rate", dropout_rate)):
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise PlanError(
                f"secure sum {name}", given=repr(rate), expected="a fraction in [0, 1)", do=f"Set {name}=0.1."
            )
    if adversary not in ("semi_honest", "semi_malicious"):
        raise PlanError(
            "secure sum threat",
            given=repr(adversary),
            expected="'semi_honest' or 'semi_malicious'",
            do="Choose what the server is trusted with.",
        )


def _chosen(
    choose: Callable[[int, float, float, Threat], GraphParameters | None],
    clients: int,
    adversarial_rate: float,
    dropout_rate: float,
    adversary: Threat,
    expected: str,
) -> GraphParameters:
    """What `choose` returns; if it returns nothing, an error that names the nearest rates that would work."""
    within = _weighed(adversarial_rate, dropout_rate, adversary) <= MAXIMUM_RATES + 1e-12
    parameters = choose(clients, adversarial_rate, dropout_rate, adversary) if within else None
    if parameters is not None:
        return parameters
    bound = f"adversarial_rate + {'' if adversary == 'semi_honest' else '2 * '}dropout_rate"

    def scaled(part: int) -> tuple[float, float]:
        """Both rates scaled by `part` thousandths, rounded down to what is printed."""
        a, d = (math.floor(rate * part) / 1000 for rate in (adversarial_rate, dropout_rate))
        return a, d

    def works(part: int) -> bool:
        a, d = scaled(part)
        return _weighed(a, d, adversary) <= MAXIMUM_RATES and choose(clients, a, d, adversary) is not None

    do = "Let more devices take part: so few cannot make a secure sum at any rates."
    if works(0):
        low, high = 0, 1000
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if works(middle) else (low, middle)
        a, d = scaled(low)
        do = f"The nearest that work are adversarial_rate={a:g} and dropout_rate={d:g}; or let more devices take part."
    raise PlanError(
        "secure sum",
        given=f"{clients} devices, of which {adversarial_rate:.1%} may be adversaries and {dropout_rate:.1%} may vanish "
        f"({adversary})",
        expected=expected if within else f"{bound} of at most {MAXIMUM_RATES}",
        do=do,
    )


def _weighed(adversarial_rate: float, dropout_rate: float, adversary: str) -> float:
    return adversarial_rate + (1 if adversary == "semi_honest" else 2) * dropout_rate


def _part(rate: float, clients: int) -> int:
    """`floor(rate * clients)` with a tolerance: 0.29 of 100 is 29, though the float is slightly less."""
    return math.floor(rate * clients + 1e-9)


def _complete(
    clients: int, adversarial_rate: float, dropout_rate: float, adversary: Threat
) -> GraphParameters | None:
    threshold, staying = _ends(clients, adversarial_rate, dropout_rate, adversary)
    return GraphParameters(clients - 1, threshold) if threshold <= staying else None


def _ends(clients: int, adversarial_rate: float, dropout_rate: float, adversary: Threat) -> tuple[int, int]:
    """The threshold of the complete graph, and how many neighbours are sure to stay."""
    threshold = max(_against(_part(adversarial_rate, clients), clients - 1, adversary) + 1, 2)
    return threshold, clients - 1 - _part(dropout_rate, clients)


@lru_cache(maxsize=256)
def _search(
    clients: int, adversarial_rate: float, dropout_rate: float, adversary: Threat
) -> GraphParameters | None:
    n = clients
    adversaries, dropped = _part(adversarial_rate, n), _part(dropout_rate, n)
    for degree in range(2, n, 2):
        if not _connected(n, degree, adversaries + dropped):
            continue
        threshold = _secret(n, adversaries, degree, adversary)
        if threshold <= _staying(n, n - dropped, degree, CORRECTNESS_BITS):
            return GraphParameters(degree, max(threshold, 2))
    return None


@lru_cache(maxsize=256)
def _agreeing(
    clients: int, adversarial_rate: float, dropout_rate: float, adversary: Threat
) -> GraphParameters | None:
    """For a server that decides who vanished: a sparse ring if there is one, otherwise the complete graph."""
    n = clients
    adversaries, staying = _part(adversarial_rate, n), n - _part(dropout_rate, n)
    complete = _complete(clients, adversarial_rate, dropout_rate, adversary)
    if _committee(n, adversarial_rate, dropout_rate) is None:
        return complete
    for degree in range(2, n - 1, 2):
        threshold = _secret(n, adversaries, degree, adversary)
        least = _staying(n, staying, degree, CORRECTNESS_BITS + 1)
        if threshold > least:
            continue
        threshold = _uncut(n, adversaries, degree, threshold)
        if threshold <= least:
            return GraphParameters(degree, threshold)
    return complete


def _committee(clients: int, adversarial_rate: float, dropout_rate: float) -> Committee | None:
    return smallest_committee(
        clients,
        _part(adversarial_rate, clients),
        clients - _part(dropout_rate, clients),
        2.0 ** -(SECURITY_BITS + 2),
        2.0 ** -(CORRECTNESS_BITS + 1),
    )


def _against(adversaries: int, degree: int, adversary: Threat) -> int:
    """Shares that adversaries can collect: those they hold, and those a lying server gets from honest devices."""
    if adversary == "semi_honest":
        return adversaries
    return math.ceil((adversaries + degree - 1.25) / 2)


def _secret(n: int, adversaries: int, degree: int, adversary: Threat) -> int:
    """The threshold that adversaries reach in no neighbourhood, except with probability 2^-41."""
    worst = upper_quantile(n, adversaries, degree, 2.0 ** -(SECURITY_BITS + 1) / n)
    return _against(worst, degree, adversary) + 1


def _staying(n: int, staying: int, degree: int, bits: int) -> int:
    """The highest threshold that staying devices reach in every neighbourhood, except with probability `2^-bits`."""
    return lower_quantile(n, staying, degree, 2.0**-bits / n)


def _connected(n: int, k: int, bad: int) -> bool:
    """Whether the honest devices that stay are connected, except with probability 2^-41."""
    if k > bad or k >= n - 1:
        return True
    factorial = factorials(n)
    logarithm = math.log2(n * (n - k - 1) / 2)
    logarithm += factorial[bad] - factorial[bad - k] + factorial[n - k] - factorial[n]
    return bool(logarithm < -(SECURITY_BITS + 1))


def _uncut(n: int, adversaries: int, k: int, threshold: int) -> int:
    """The smallest threshold, at least `threshold`, at which a server cannot cut the ring by declaring devices vanished.

    To cut the ring, the server needs two disjoint stretches of k/2 places with `threshold - k/2 - 1` adversaries in each.
    Counts of adversaries in disjoint places are negatively associated, so the probability of both is at most the product
    of the two. There are `n (n - k + 1) / 2` pairs of stretches. The union may have probability 2^-42.
    """
    half, pairs = k // 2, n * (n - k + 1) / 2
    both = pairs * upper_tail(n, adversaries, half) ** 2
    enough = np.append(both, 0.0) <= 2.0 ** -(SECURITY_BITS + 2)
    return max(threshold, half + 1 + int(np.argmax(enough)))
