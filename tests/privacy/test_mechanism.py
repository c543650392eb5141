"""The direct check of the mechanism: honest noise of every law passes, and every fault that is planted is found."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from fairyring.core.errors import PlanError, PrivacyError
from fairyring.core.noise import Noise
from fairyring.privacy import _noise_tests as tests
from fairyring.privacy import _rows
from fairyring.privacy._normal_scores import scores, whitening
from fairyring.privacy._rows import Rows
from fairyring.privacy.correlated import coefficients
from fairyring.privacy.mechanism import Checked, DirectCheck, Mechanism, signed
from fairyring.privacy.source import NoiseSource

D, AUXILIARIES, CLIENTS = 250, ("loss", "accuracy"), 10
COPIES = 3
NOISY = D + len(AUXILIARIES) * COPIES

LAWS = {
    "gaussian": Noise("gaussian", 1.0, NOISY, 5e3, 1e5, 1.0, D),
    "small gaussian": Noise("gaussian", 1.0, NOISY, 2.0, 1e2, 1.0, D),
    "correlated": Noise("correlated", 1.0, NOISY, 900.0, 1e5, 1.0, D, bands=4),
    "skellam": Noise("skellam", 1.0, NOISY, 900.0, 1e5, 1.0, D, shares=8),
    "small skellam": Noise("skellam", 1.0, NOISY, 3.0, 1e2, 1.0, D, shares=8),
    "discrete gaussian": Noise("discrete_gaussian", 1.0, NOISY, 40.0, 1e3, 1.0, D, shares=8),
}


def added(noise: Noise, rounds: int, seed: int) -> dict[int, np.ndarray]:
    """Honest noise of rounds 1, 2, ...: int64 `[NOISY]` each."""
    source = NoiseSource(noise, seed.to_bytes(32, "big"))
    if noise.distributed:
        return {t: source.of_clients(t, CLIENTS) for t in range(1, rounds + 1)}
    return {t: source.of_server(t, {s: s for s in range(1, t + 1)}) for t in range(1, rounds + 1)}


def check(noise: Noise, what: dict[int, np.ndarray], bits: int = 32, false_alarm: float = 1e-6) -> Checked:
    """The check of releases with this noise in them."""
    mechanism, dice = Mechanism(noise, AUXILIARIES, bits), np.random.default_rng(0)
    sigma = noise.sigma * ((CLIENTS / noise.shares) ** 0.5 if noise.distributed else 1.0)
    for round, own in what.items():
        total = dice.integers(-200, 200, NOISY + 1)
        total[-1] = CLIENTS
        released = total.copy()
        released[:NOISY] += own
        released = (released & ((1 << bits) - 1)).astype(np.uint32)
        mechanism.released(round, total, released, sigma=sigma, encoded=CLIENTS, clients=CLIENTS)
    return mechanism.check(dict.fromkeys(what, sigma), false_alarm)


@pytest.mark.parametrize("name", LAWS)
def test_honest_noise_of_every_law_fails_no_more_often_than_is_said(name: str) -> None:
    noise, runs = LAWS[name], 60
    for bits, rounds in ((32, 1), (20, 6)):
        failed = sum(not check(noise, added(noise, rounds, s), bits, 0.1).holds for s in range(runs))
        # Of a tenth at most: more than 17 of 60 are seen once in 10^5.
        assert failed <= stats.binom.isf(1e-5, runs, 0.1)
        assert check(noise, added(noise, rounds, 1000), bits).holds


def test_correlated_noise_of_which_rounds_are_missing_passes() -> None:
    noise = LAWS["correlated"]
    everything = added(noise, 12, 3)
    assert check(noise, {t: own for t, own in everything.items() if t not in (1, 4, 5, 9)}).holds


def test_shares_that_are_drawn_one_by_one_pass() -> None:
    for name in ("skellam", "discrete gaussian"):
        source = NoiseSource(LAWS[name], bytes(32))
        drawn = {t: np.sum([source.of_client(t, c) for c in range(CLIENTS)], axis=0) for t in (1, 2, 3)}
        assert check(LAWS[name], drawn).holds


def test_scores_are_the_law_s_own_normal_scores() -> None:
    dice = np.random.default_rng(5)
    for mechanism, sigma, drawn in (
        ("skellam", 1.3, stats.skellam.rvs(0.845, 0.845, size=40_000, random_state=1)),
        ("gaussian", 0.7, np.rint(np.random.default_rng(2).normal(0, 0.7, 40_000))),
    ):
        z = scores(drawn.astype(np.int64), mechanism, sigma, dice)
        assert stats.kstest(z, "norm").pvalue > 1e-4
    assert scores(np.array([10**9, -(10**9)]), "skellam", 5.0, dice).tolist() == [38.0, -38.0]


def test_whitening_is_the_inverse_series() -> None:
    bands, rounds = 5, 12
    r = coefficients(bands)
    mixing = sum(c * np.eye(rounds, k=-j) for j, c in enumerate(r))
    np.testing.assert_allclose(
        whitening(list(range(1, rounds + 1)), bands, 1e9), np.linalg.inv(mixing), atol=1e-9
    )


# -- faults -----------------------------------------------------------------------------------------------

Fault = Callable[[dict[int, np.ndarray], Noise], dict[int, np.ndarray]]


def every(change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    return lambda what, noise: {t: change(own.copy()) for t, own in what.items()}


def without(place: slice | int) -> Fault:
    def change(own: np.ndarray) -> np.ndarray:
        own[place] = 0
        return own

    return every(change)


def wrapped(own: np.ndarray) -> np.ndarray:
    """Noise that went through 12 bits on its way."""
    return ((own + 2048) & 4095) - 2048


def once_again(what: dict[int, np.ndarray], noise: Noise) -> dict[int, np.ndarray]:
    return what | {max(what): what[1]}


def partly_again(what: dict[int, np.ndarray], noise: Noise) -> dict[int, np.ndarray]:
    """Half of round 1's noise again, elsewhere in a later round."""
    last = what[max(what)].copy()
    last[125:250] = what[1][5:130]
    return what | {max(what): last}


def doubled(own: np.ndarray) -> np.ndarray:
    """Every number is used for two coordinates."""
    own[1 : len(own) // 2 * 2 : 2] = own[: len(own) // 2 * 2 : 2]
    return own


def uniform(own: np.ndarray) -> np.ndarray:
    """The right variance, another law."""
    width = float(np.std(own)) * 3**0.5
    return np.rint(np.random.default_rng(int(own[0]) % 1000).uniform(-width, width, len(own))).astype(int)


FAULTS: dict[str, tuple[str, int, Fault, str]] = {
    "0.7 times": ("gaussian", 2, every(lambda own: np.rint(0.7 * own).astype(int)), "noise in all"),
    "1.3 times": ("gaussian", 2, every(lambda own: np.rint(1.3 * own).astype(int)), "noise in all"),
    "no noise at all": ("gaussian", 1, every(np.zeros_like), "coordinates without noise"),
    "without 77 of 256": ("gaussian", 1, without(slice(50, 127)), "coordinates without noise"),
    "first half only": ("gaussian", 1, without(slice(D // 2, None)), "noise in each part"),
    "no loss": ("gaussian", 1, without(slice(D, D + COPIES)), "noise in each part"),
    "no accuracy": ("skellam", 3, without(slice(D + COPIES, None)), "noise in each part"),
    "one coordinate": ("gaussian", 4, without(17), "noise in each coordinate"),
    "round 1 again": ("gaussian", 3, once_again, "noise of two rounds"),
    "moved": ("gaussian", 3, every(lambda own: own), "noise at any shift"),
    "a part again": ("gaussian", 3, partly_again, "noise at any shift"),
    "in pairs": ("gaussian", 3, every(doubled), "neighbouring coordinates"),
    "through 12 bits": ("gaussian", 1, every(wrapped), "noise in all"),
    "off the middle": ("gaussian", 6, every(lambda own: own + 2000), "mean of the noise"),
    "uniform": ("gaussian", 20, every(uniform), "shape of the noise"),
    "on a coarse grid": ("gaussian", 2, every(lambda own: own // 8 * 8), "grid of the noise"),
    "small, 0.8 times": (
        "small skellam",
        8,
        every(lambda own: own * (np.random.default_rng(1).random(len(own)) < 0.64)),
        "noise in all",
    ),
    "no share of five in ten": (
        "discrete gaussian",
        1,
        every(lambda own: np.rint(own * 0.5**0.5).astype(int)),
        "noise in all",
    ),
    "one round without": ("correlated", 8, lambda what, noise: what | {5: 0 * what[5]}, "coordinates without noise"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    name, rounds, plant, by = FAULTS[fault]
    noise = LAWS[name]
    what = added(noise, rounds, 7)
    if fault == "moved":
        what[3] = np.roll(what[1], 40)
    result = check(noise, plant(what, noise))
    assert by in [finding.name for finding in result.failed], result.statement
    assert result.statement.count("does not hold") == 1
    assert check(noise, added(noise, rounds, 7)).holds


@pytest.mark.parametrize(
    "auxiliaries", [("loss", "loss"), ("accuracy", "the update"), ("accuracy", "coordinates 0 to 15")]
)
def test_side_values_of_any_name_hide_no_other_part(
    auxiliaries: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric may be called what an algorithm's auxiliary value, or a part of the update, is called."""
    monkeypatch.setitem(globals(), "AUXILIARIES", auxiliaries)
    noise, honest = LAWS["gaussian"], added(LAWS["gaussian"], 8, 7)
    first = slice(D, D + COPIES) if auxiliaries[0] == auxiliaries[1] else slice(0, D // 15)
    less = {t: own.copy() for t, own in honest.items()}
    for own in less.values():
        own[first] //= 8
    parts = Mechanism(noise, auxiliaries, 32)._parts
    assert slice(0, D) in parts.values()
    assert first in parts.values()
    assert slice(D + COPIES, D + 2 * COPIES) in parts.values()
    assert check(noise, honest).holds
    assert not check(noise, less).holds


def test_correlated_noise_that_is_not_is_found() -> None:
    noise = LAWS["correlated"]
    plain = Noise("gaussian", 1.0, NOISY, 900.0, 1e5, 1.0, D)
    assert not check(noise, added(plain, 12, 7)).holds
    z, r = added(plain, 12, 8), coefficients(4)
    # The sign of what is taken back is wrong: more noise in all sums, and another law.
    wrong = {
        t: np.rint(z[t] - sum(r[j] * z[t - j] for j in range(1, min(4, t)))).astype(int) for t in range(1, 13)
    }
    result = check(noise, wrong)
    assert "rounds so many apart" in [finding.name for finding in result.failed]
    right = {t: np.rint(sum(r[j] * z[t - j] for j in range(min(4, t)))).astype(int) for t in range(1, 13)}
    assert check(noise, right).holds


def test_a_true_sum_that_is_taken_off_or_shrunk_is_found() -> None:
    noise = LAWS["small gaussian"]
    for share in (-2.0, -0.1):
        mechanism = Mechanism(noise, AUXILIARIES, 32)
        total = np.append(np.random.default_rng(0).integers(-300, 300, NOISY), CLIENTS)
        released = total + np.append(np.rint(share * total[:-1]).astype(int) + added(noise, 1, 5)[1], 0)
        mechanism.released(1, total, released.astype(np.int32), sigma=2.0, encoded=CLIENTS, clients=CLIENTS)
        failed = [finding.name for finding in mechanism.check({1: 2.0}).failed]
        assert "noise apart from the sum" in failed


def test_clients_that_answer_to_earlier_noise_pass_and_noise_along_the_sum_does_not() -> None:
    """Training takes back some of the noise in the model, as correlated noise does: they are not apart."""
    noise = LAWS["correlated"]
    what = added(noise, 10, 4)

    def delivered(share: float) -> list[str]:
        mechanism, model = Mechanism(noise, AUXILIARIES, 32), np.zeros(NOISY, np.int64)
        for t, own in what.items():
            total = np.append(np.rint(-0.5 * model).astype(int), CLIENTS)
            released = total + np.append(own + np.rint(share * total[:-1]).astype(int), 0)
            model += own
            mechanism.released(
                t, total, released.astype(np.int32), sigma=900.0, encoded=CLIENTS, clients=CLIENTS
            )
        return [finding.name for finding in mechanism.check(dict.fromkeys(what, 900.0)).failed]

    assert delivered(0.0) == []
    assert "noise apart from the sum" in delivered(-0.9)


def test_what_must_hold_exactly() -> None:
    noise = Noise("gaussian", 1.0, 4, 5.0, 7.0, 1.0, 4)

    def after(*vectors: list[int], counted: float = 5.0, clients: int = 1, last: int = 1) -> list[str]:
        mechanism = Mechanism(noise, (), 16)
        total = sum(mechanism.encoded(np.array(v, np.int64) & 0xFFFF) for v in vectors)
        released = (np.append(total[:4] + np.array([3, -2, 6, 1]), last) & 0xFFFF).astype(np.uint32)
        mechanism.released(1, total, released, sigma=5.0, encoded=len(vectors), clients=clients)
        result = mechanism.check({1: counted} if counted else {})
        return [finding.name for finding in result.failed]

    assert after([3, 4, 0, 0, 1]) == []
    assert after([3, -4, 0, 0, 1]) == []
    assert after([3, 4, 1, 0, 1]) == ["L2 norm", "L1 norm"]
    assert after([2, 2, 2, 2, 1]) == ["L1 norm"]
    assert after([3, 4, 0, 0, 1], clients=2) == ["clients in the sum"]
    assert after([3, 4, 0, 0, 1], last=2) == ["coordinates in the clear"]
    assert after([3, 4, 0, 0, 1], counted=5.1) == ["noise that is counted"]
    assert after([3, 4, 0, 0, 1], counted=0.0) == ["noise that is counted"]
    far = [[0, 0, 0x7FFF, 0, 0]] * 2  # their sum is no number of 16 bits
    assert "room in the modulus" in after(*far, clients=2)


def test_norms_of_the_largest_whole_numbers_are_exact() -> None:
    mechanism = Mechanism(Noise("gaussian", 1.0, 3, 1.0, 1.0, 1.0, 3), (), 32)
    vector = np.array([2**31 - 1, -(2**31), 12345])
    assert mechanism.encoded(vector & 0xFFFFFFFF).tolist() == vector.tolist()
    assert mechanism._longest == sum(int(v) ** 2 for v in vector)
    assert signed(np.array([0xFFFF, 0x7FFF, 0x8000], np.uint32), 16).tolist() == [-1, 32767, -32768]


def test_bounds_of_correlations_hold() -> None:
    dice = np.random.default_rng(4)
    drawn = dice.standard_normal((4000, 40))
    own = (drawn[:, 1:] * drawn[:, :-1]).sum(axis=1) / (drawn**2).sum(axis=1)
    other = dice.standard_normal((4000, 40))
    between = (drawn * other).sum(axis=1) / np.linalg.norm(drawn, axis=1) / np.linalg.norm(other, axis=1)
    for limit in (0.05, 0.01):
        bounded = np.mean([tests._autocorrelated(c, 40) < limit for c in own])
        assert bounded <= limit
        exact = sum(tests._aligned(c, 40) < limit for c in between)
        assert stats.binomtest(exact, len(between), limit).pvalue > 1e-6


def test_rows_on_disk_are_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(0).standard_normal((5, 700)).astype(np.float32)
    monkeypatch.setattr(_rows, "IN_MEMORY", 6000)
    rows = Rows(700)
    for row in drawn:
        rows.append(row)
    assert rows._file is not None
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([c for _, c in rows.columns(300)], axis=1), drawn)
    assert [start for start, _ in rows.columns(300)] == [0, 300, 600]


def test_what_is_no_probability_and_what_is_no_release_are_refused() -> None:
    for bad in (0.0, 0.2, float("nan")):
        with pytest.raises(PlanError, match="false_alarm"):
            DirectCheck(bad)
    mechanism = Mechanism(LAWS["gaussian"], AUXILIARIES, 32)
    with pytest.raises(PrivacyError, match="whole vector"):
        mechanism.released(1, np.zeros(5, int), np.zeros(5, int), sigma=1.0, encoded=1, clients=1)
    nothing = mechanism.check({})
    assert nothing.holds
    assert "Nothing was released" in nothing.statement
