"""Niche overlap by hand, and populations that part their niches told from one under two names."""

import math

import numpy as np
import pytest

from fairyring.core.errors import EcologyError, StatisticsError
from fairyring.ecology.analysis import niches as s


def test_overlap_by_hand() -> None:
    assert s.overlap([2, 0], [0, 5]) == s.overlap([2, 0], [0, 5], "schoener") == 0.0
    assert s.overlap([1, 3], [2, 6]) == pytest.approx(1.0)
    assert s.overlap([1, 1], [1, 0]) == pytest.approx(1 / math.sqrt(2))
    assert s.overlap([1, 1, 2], [4, 0, 0], "schoener") == pytest.approx(0.25)


@pytest.mark.parametrize("kind", ["pianka", "schoener"])
@pytest.mark.parametrize("paired", [True, False])
def test_parted_niches_are_told_from_one_population_named_twice(kind: str, paired: bool) -> None:
    rng = np.random.default_rng(0)
    left, right = [5, 3, 1, 1], [2, 3, 2, 3]

    def worlds(alpha: list[int], count: int = 10) -> np.ndarray:
        return np.array([rng.multinomial(300, rng.dirichlet(np.multiply(alpha, 2))) for _ in range(count)])

    def p(a: list[int], b: list[int]) -> float:
        found = s.niche_overlap(worlds(a), worlds(b), kind=kind, paired=paired, resamples=399)
        assert 0 <= found.overlap <= 1
        assert found.worlds == (10 if paired else 20)
        return found.p

    drift = np.array([p(left, left) for _ in range(60)])
    assert (drift <= 0.05).mean() <= 0.14  # binomial: 60 at .05 exceed it once in 500
    assert drift.mean() == pytest.approx(0.5, abs=0.13)
    assert np.mean([p(left, right) <= 0.05 for _ in range(20)]) >= 0.8


def test_disjoint_niches_have_the_least_p_of_their_jars() -> None:
    rng = np.random.default_rng(0)
    a, b = np.zeros((6, 4)), np.zeros((6, 4))
    a[:, :2], b[:, 2:] = rng.integers(1, 9, (6, 2)), rng.integers(1, 9, (6, 2))
    found = s.niche_overlap(a, b)
    assert found.overlap == 0.0
    assert found.p == 2 / 2**6
    assert found.expected > 0.3


def test_what_is_no_use_of_niches_is_refused() -> None:
    for call, error, named in [
        (lambda: s.overlap([1, 2], [1, 2, 3]), EcologyError, "bins"),
        (lambda: s.overlap([1, -2], [1, 2]), StatisticsError, "use of the first"),
        (lambda: s.overlap([1, 2], [0, 0]), EcologyError, "niche"),
        (lambda: s.overlap([1], [1], "jaccard"), EcologyError, "kind"),
        (lambda: s.niche_overlap([[1, 2]], [[1, 2], [1, 2]]), EcologyError, "same jars"),
    ]:
        with pytest.raises(error, match=named):
            call()
