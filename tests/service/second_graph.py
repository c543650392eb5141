"""The graph of a session for a second device: degree, threshold and committee, from whole numbers and without rounding.

Written from `docs/secure_aggregation_protocol.md`; nothing of fairyring is imported.
"""

import math
from fractions import Fraction


def part(rate, devices):
    return math.floor(rate * devices + 1e-9)


def chances(n, marked, draws):
    """Chances that 0, 1, .. of the drawn are marked, without putting back."""
    every = math.comb(n, draws)
    return [
        Fraction(math.comb(marked, x) * math.comb(n - marked, draws - x), every) for x in range(draws + 1)
    ]


def most_marked(n, marked, draws, chance):
    """The smallest x with P(more than x) <= chance."""
    of, above = chances(n, marked, draws), Fraction(0)
    for x in range(draws, -1, -1):
        if above + of[x] > chance:
            return x
        above += of[x]
    return 0


def fewest_marked(n, marked, draws, chance):
    """The smallest x with P(at most x) >= chance."""
    below = Fraction(0)
    for x, of in enumerate(chances(n, marked, draws)):
        below += of
        if below >= chance:
            return x
    raise AssertionError("chances add up to 1")


def against(bad, degree, lying):
    return math.ceil((bad + degree - 1.25) / 2) if lying else bad


def complete(n, adversaries, dropped, lying):
    threshold = max(against(adversaries, n - 1, lying) + 1, 2)
    return (n - 1, threshold) if threshold <= n - 1 - dropped else None


def committee(n, adversaries, staying):
    for size in range(1, n + 1):
        threshold = (size + most_marked(n, adversaries, size, Fraction(1, 2**42))) // 2 + 1
        if threshold <= fewest_marked(n, staying, size, Fraction(1, 2**21)):
            return size, threshold
    return None


def graph(terms, n):
    """Degree, threshold, size of the committee, and how many of it must sign, in a session of n devices; None if there is no graph."""
    lying = terms["threat"] == "semi_malicious"
    adversaries, dropped = part(terms["adversarial_rate"], n), part(terms["dropout_rate"], n)
    if terms["adversarial_rate"] + (1 + lying) * terms["dropout_rate"] > 0.9 + 1e-12:
        return None
    council = committee(n, adversaries, n - dropped) if lying and n > 60 else None
    found = complete(n, adversaries, dropped, lying)
    if n > 60 and (council or not lying):
        found = sparse(n, adversaries, dropped, lying) or (found if lying else None)
    if found is None:
        return None
    return (*found, *(council if council and found[0] < n - 1 else (0, 0)))


def sparse(n, adversaries, dropped, lying):
    for degree in range(2, n - 1 if lying else n, 2):
        bad = adversaries + dropped
        cut = Fraction(n * (n - degree - 1), 2) * Fraction(math.comb(bad, degree), math.comb(n, degree))
        if not lying and degree < n - 1 and cut >= Fraction(1, 2**41):
            continue
        threshold = against(most_marked(n, adversaries, degree, Fraction(1, n * 2**41)), degree, lying) + 1
        least = fewest_marked(n, n - dropped, degree, Fraction(1, n * 2 ** (21 if lying else 20)))
        if threshold <= least and lying:
            half, pairs, above, at = degree // 2, Fraction(n * (n - degree + 1), 2), Fraction(0), 0
            for x, chance in reversed(list(enumerate(chances(n, adversaries, half)))):
                above += chance
                if pairs * above**2 > Fraction(1, 2**42):
                    at = x + 1
                    break
            threshold = max(threshold, half + 1 + at)
        if threshold <= least:
            return degree, threshold if lying else max(threshold, 2)
    return None
