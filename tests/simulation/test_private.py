"""Private plans from end to end: the noise that was promised is in what is released, and the ledger says what it spends."""

import math
import os
import re
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.stats import binom

import fairyring as fr
from fairyring.core.errors import PlanError
from fairyring.learning.protection import honest_of
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.participation import AtMost, PoissonSampled
from fairyring.privacy.release import Release
from fairyring.records.layout import SECRET
from fairyring.rounds.cohorts import CohortSampler, DropoutPoint
from fairyring.rounds.feasibility import (
    check_participation,
    enough,
    largest_minimum_cohort,
    probability_below,
    probability_beyond,
)
from tests.simulation.private_runs import (
    DELTA,
    ENTROPY,
    Releases,
    compiled_once,
    is_of_variance,
    ledger,
    people,
    plan,
    run,
    same_state,
    signed,
)


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    with compiled_once():
        yield


CENTRAL = plan(fr.gaussian_noise(1.5))
SKELLAM = plan(fr.distributed_noise("skellam", 1.5, shares=5), fr.rotate(), bits=22)
DISCRETE = plan(fr.distributed_noise("discrete_gaussian", 1.5, shares=5), fr.rotate(), bits=22)
TOPPED = plan(
    fr.distributed_noise("skellam", 1.5, shares=9, shortfall="top_up"),
    bits=22,
    secure={"dropout_rate": 0.4, "minimum_cohort": 3},
)
# Of ten, nine are taken for honest: a round in which one more is missing is not released.
ABORTING = plan(fr.distributed_noise("skellam", 1.5, shares=8), bits=22)
STRICT = plan(fr.gaussian_noise(1.5), secure={"minimum_cohort": 9})
IN_TURN = plan(
    fr.gaussian_noise(1.5), cohort=fr.cohort.in_turn(10, separation=4), secure={"minimum_cohort": 9}
)


def noise_of(given: fr.Plan):
    found = given.bound.spec.noise
    assert found is not None
    return found


def release_of(given: fr.Plan) -> Release:
    assert given.protection is not None
    return given.protection.release


# -- the drivers agree ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "dropout"),
    [
        (CENTRAL, 0.0),
        (CENTRAL, 0.15),
        (SKELLAM, 0.0),
        (SKELLAM, 0.15),
        pytest.param(DISCRETE, 0.15, marks=pytest.mark.slow),
        pytest.param(TOPPED, 0.2, marks=pytest.mark.slow),
    ],
    ids=["central", "central dropout", "skellam", "skellam dropout", "discrete dropout", "topped up"],
)
def test_the_ideal_sum_and_the_protocol_spend_the_same(given, dropout, tmp_path):
    runs = {
        mode: run(given, dropout=dropout, secure_sum=mode, run=tmp_path / mode)
        for mode in ("ideal", "protocol")
    }
    spent = {mode: made.header["privacy"]["spent"] for mode, made in runs.items()}
    assert spent["ideal"] == spent["protocol"] > 0
    counts = {mode: ledger(tmp_path / mode).spent().counts for mode in runs}
    assert counts["ideal"] == counts["protocol"]
    heard = [[record.clients for record in made.records] for made in runs.values()]
    assert heard[0] == heard[1]
    assert (min(heard[0]) < 10) == (dropout > 0)
    if given is CENTRAL:
        assert same_state(runs["ideal"], runs["protocol"])


def test_noise_does_not_come_from_the_seed():
    one, other = run(CENTRAL, entropy=None), run(CENTRAL, entropy=None)
    assert not same_state(one, other)
    assert same_state(run(CENTRAL), run(CENTRAL))
    assert not same_state(run(CENTRAL), run(CENTRAL, entropy=bytes(32)))
    assert same_state(run(SKELLAM, secure_sum="protocol"), run(SKELLAM, secure_sum="protocol"))


# -- what was added is what was promised ------------------------------------------------------------------------


def test_the_server_adds_central_noise_of_the_promised_size(monkeypatch):
    found = Releases(monkeypatch)
    run(CENTRAL, rounds=4)
    noise = noise_of(CENTRAL)
    added = found.noise(24)
    assert added[:, noise.coordinates :].tolist() == [[0]] * 4  # the number of clients is in the clear
    assert is_of_variance(added[:, : noise.coordinates], (1.5 * noise.l2) ** 2 + 1 / 12)
    assert not is_of_variance(added[:, : noise.coordinates], (1.3 * noise.l2) ** 2)
    assert len({row.tobytes() for row in added}) == 4


SHARED = pytest.mark.parametrize(
    "given", [SKELLAM, pytest.param(DISCRETE, marks=pytest.mark.slow)], ids=["skellam", "discrete gaussian"]
)


@SHARED
def test_clients_add_distributed_noise_of_the_size_in_the_ledger(given, monkeypatch, tmp_path):
    """More clients than the promise needs add more noise, and spend less."""
    noise = noise_of(given)
    exact = Releases(monkeypatch)
    run(given, rounds=4, run=tmp_path / "run", dropout=0.1)
    assert min(exact.clients) < max(exact.clients)
    for row, clients in zip(exact.noise(22), exact.clients, strict=True):
        assert is_of_variance(row[: noise.coordinates], noise.sigma**2 * clients / 5)
    # The ledger counts the shares of those that are honest for certain, and no others.
    assert sorted(_each(tmp_path / "run")) == sorted(honest_of(clients, 10, 0.1) for clients in exact.clients)
    for release in ledger(tmp_path / "run").spent().counts:
        assert release.multiplier == pytest.approx(1.5 * math.sqrt(release.shares / 5))
        assert release.sigma**2 * release.shares == pytest.approx((release.multiplier * noise.l2) ** 2)


def _each(folder: Path) -> list[int]:
    """Shares in each release."""
    return [release.shares for release, count in ledger(folder).spent().counts.items() for _ in range(count)]


@SHARED
def test_under_the_protocol_every_client_adds_its_own_share(given, monkeypatch):
    """The masked sum less the sum without noise: the first round of both is of the same model."""
    noise = noise_of(given)
    with monkeypatch.context() as patch:
        plain = Releases(patch)
        run(given, rounds=1)
    masked = Releases(monkeypatch)
    run(given, rounds=1, secure_sum="protocol")
    assert np.array_equal(masked.totals[0], masked.noisy[0])  # the server adds nothing
    added = signed(masked.totals[0].view(np.uint32) - plain.totals[0].view(np.uint32), 22)
    assert is_of_variance(added[: noise.coordinates], noise.sigma**2 * 10 / 5)
    assert not is_of_variance(added[: noise.coordinates], noise.sigma**2)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ideal", "protocol"])
def test_the_server_tops_up_what_is_missing_and_no_more(mode, monkeypatch, tmp_path):
    noise = noise_of(TOPPED)
    found = Releases(monkeypatch)
    run(TOPPED, rounds=4, dropout=0.3, secure_sum=mode, run=tmp_path / "run")
    assert min(found.clients) < 9
    for row, clients in zip(found.noise(22), found.clients, strict=True):
        missing = max(0, 9 - honest_of(clients, 10, 0.1))
        drawn = missing + (clients if mode == "ideal" else 0)  # the others' shares were in the sum already
        if drawn:
            assert is_of_variance(row[: noise.coordinates], noise.sigma**2 * drawn / 9)
        else:
            assert not row.any()
    assert list(ledger(tmp_path / "run").spent().counts) == [release_of(TOPPED)]  # as promised, no less


@pytest.mark.slow
def test_a_run_with_noise_differs_from_one_without_by_the_noise_it_reports():
    """The first round's noisy model less the exact one, in units of what the record calls its noise."""
    quiet = plan(fr.gaussian_noise(1e-3))
    exact, noisy = run(quiet, rounds=1), run(CENTRAL, rounds=1)
    difference = np.concatenate([(noisy.params[n] - exact.params[n]).ravel() for n in ("b", "w")])
    assert is_of_variance(difference, noisy.records[0].noise ** 2)


# -- rounds that are not released -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ideal", "protocol"])
@pytest.mark.parametrize(
    "given", [STRICT, pytest.param(ABORTING, marks=pytest.mark.slow)], ids=["central", "distributed"]
)
def test_a_round_of_too_few_is_cancelled_and_spends_nothing(given, mode, tmp_path, monkeypatch):
    found = Releases(monkeypatch)
    made = run(given, rounds=6, dropout=0.2, secure_sum=mode, run=tmp_path / "run")
    aborted = [record.aborted is not None for record in made.records]
    assert any(aborted)
    assert not all(aborted)
    history = ledger(tmp_path / "run")
    assert sum(history.spent().counts.values()) == aborted.count(False) == len(found.clients)
    assert min(found.clients) >= given.minimum_cohort
    assert [one.cancelled for one in history.reservations.values()] == aborted
    assert (
        made.header["privacy"]["spent"] == Accountant(AtMost(), DELTA).spent(history.spent().counts).epsilon
    )
    assert all(math.isnan(r.loss) and r.clients == 0 for r, a in zip(made.records, aborted, strict=True) if a)


def test_too_few_that_unmask_are_cancelled_too(monkeypatch, tmp_path):
    everybody = {client: DropoutPoint.BEFORE_UNMASKING for client in range(40)}
    monkeypatch.setattr(CohortSampler, "dropout_points", lambda self, cohort: everybody)
    made = run(CENTRAL, rounds=2, secure_sum="protocol", run=tmp_path / "run")
    assert [record.aborted.stage for record in made.records] == ["unmasking"] * 2
    assert made.header["privacy"]["spent"] == 0
    assert not ledger(tmp_path / "run").spent().counts


def test_a_round_that_is_not_released_has_still_passed_where_rounds_between_turns_count(
    tmp_path, monkeypatch
):
    """A device in rounds 1 and 5 is in two releases, though nothing was released in the rounds between them."""
    stay = CohortSampler._stay

    def stays(self, number, sampled):
        return stay(self, number, sampled)[: 10 if number in (1, 5) else 5]

    monkeypatch.setattr(CohortSampler, "_stay", stays)
    made = run(IN_TURN, rounds=5, run=tmp_path / "run")
    assert [record.aborted is not None for record in made.records] == [False, True, True, True, False]
    assert made.participation.tolist().count(2) == 10
    accountant = Accountant(AtMost(), DELTA)
    assert made.header["privacy"]["spent"] >= accountant.spent({release_of(IN_TURN): 2}).epsilon


# -- what is kept ---------------------------------------------------------------------------------------------


def forms(secret: bytes) -> list[bytes]:
    return [secret, secret.hex().encode(), repr(secret).encode(), str(list(secret)).encode()]


@pytest.mark.parametrize("given", [CENTRAL, SKELLAM], ids=["central", "distributed"])
def test_the_secret_is_its_owners_while_the_run_lasts_and_gone_afterwards(given, tmp_path):
    folder, seen = tmp_path / "run", []

    def look(record):
        found = os.stat(folder / SECRET)
        seen.append((stat.S_IMODE(found.st_mode), found.st_size))
        for path in folder.rglob("*"):
            if path.is_file() and path.name != SECRET:
                assert not any(form in path.read_bytes() for form in forms(ENTROPY)), path

    made = run(given, run=folder, on_round=look, checkpoint_every=1, secure_sum="protocol")
    assert seen == [(0o600, len(ENTROPY + b" given"))] * 3
    assert not (folder / SECRET).exists()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert not any(form in path.read_bytes() for form in forms(ENTROPY)), path
    shown = repr(made) + repr(vars(made))
    assert not any(form.decode("latin-1") in shown for form in forms(ENTROPY))


def test_no_sum_and_no_vector_without_noise_is_kept(tmp_path, monkeypatch):
    found = Releases(monkeypatch)
    run(CENTRAL, secure_sum="protocol", run=tmp_path / "central", checkpoint_every=1)
    assert not list((tmp_path / "central").rglob("*.sum"))
    run(SKELLAM, secure_sum="protocol", run=tmp_path / "shares", checkpoint_every=1)
    assert len(list((tmp_path / "shares").rglob("*.sum"))) == 2  # the clients' noise is in them
    for folder in (tmp_path / "central", tmp_path / "shares"):
        # What one client meant to send is not kept, only what the server received of it.
        assert set(load_file(folder / "exhibit.safetensors")) == {"received"}
    exact = [total[:60].tobytes() for total in found.totals[:3]]
    for path in (tmp_path / "central").rglob("*"):
        assert not path.is_file() or not any(part in path.read_bytes() for part in exact), path


@pytest.mark.slow
def test_how_many_came_is_in_no_release_where_sampling_is_secret(tmp_path, monkeypatch):
    given = plan(fr.gaussian_noise(1.5), cohort=fr.cohort.poisson(0.25, maximum=38), bits=None)
    found = Releases(monkeypatch)
    made = run(given, run=tmp_path / "run")
    assert len(set(found.clients)) > 1
    assert all(len(total) == noise_of(given).coordinates for total in found.totals)
    assert noise_of(given).coordinates > 61 * 4
    expected = Accountant(PoissonSampled(0.25), DELTA * 0.999).spent({release_of(given): 3})
    assert made.header["privacy"]["spent"] == expected.epsilon
    assert expected.epsilon < Accountant(AtMost(), DELTA).spent({release_of(given): 3}).epsilon


@pytest.mark.slow
def test_a_clip_norm_that_adapts_follows_the_updates_between_rounds():
    """All updates are far shorter than the first norm: it falls by about exp(-0.1) a round, from noisy bits."""
    given = plan(fr.gaussian_noise(0.02), algorithm=fr.adaptive_clip(50.0, rate=0.2, quantile=0.5))
    norms = [float(run(given, rounds=rounds).state.algorithm[0]) for rounds in (1, 2, 4)]
    for rounds, norm in zip((1, 2, 4), norms, strict=True):
        assert norm == pytest.approx(50.0 * math.exp(-0.1 * rounds), rel=0.02)
        assert norm != 50.0 * math.exp(-0.1 * rounds)


# -- claims about who takes part --------------------------------------------------------------------------------


COUNTED = fr.Budget(math.inf, DELTA)
FEW = fr.Budget(math.inf, DELTA, population=40)


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({}, {"entropy": bytes(31)}, "entropy: given 31 bytes; expected 32 bytes"),
        ({}, {"entropy": "x" * 32}, "entropy: given str"),
        ({"budget": fr.Budget(math.inf, DELTA, population=41)}, {}, "41.*at most 40.*population=40"),
        (
            {"cohort": fr.cohort.poisson(0.25, maximum=15)},
            {},
            r"poisson maximum: given 15, which a round of 40 clients exceeds.*Set maximum=(2\d|30)",
        ),
        (
            {"cohort": fr.cohort.in_turn(10, separation=5)},
            {},
            "10 of 40 clients a round.*at least 50 clients.*separation=4",
        ),
        (
            {"cohort": fr.cohort.fixed([[0, 1, 2, 3]])},
            {"audit": fr.privacy.Canaries(30)},
            "audit: given a cohort that is fixed",
        ),
        ({}, {"audit": 30}, "audit: given 30"),
    ],
)
def test_simulations_that_cannot_keep_the_claim(options, settings, message, tmp_path):
    with pytest.raises(PlanError, match=message) as caught:
        run(plan(fr.gaussian_noise(1.0), **options), run=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()  # refused before anything is written
    assert "x" * 32 not in str(caught.value)


@pytest.mark.parametrize("kind", ["in turn", "correlated"])
def test_rounds_beyond_those_of_the_budget_are_counted_as_they_are(kind):
    """With a multiplier of its own a plan may run on: a device then takes part more often than was planned."""
    noise, rounds, expected = {
        "in turn": (fr.gaussian_noise(2.0), 60, 5.545),
        "correlated": (fr.correlated_noise(2.0), 80, 9.361),
    }[kind]
    given = plan(
        noise, cohort=fr.cohort.in_turn(4, separation=10), bits=None, budget=fr.Budget(3.0, DELTA, 10)
    )
    made = run(replace(given, privacy=fr.Budget(math.inf, DELTA, 10)), rounds=rounds)
    assert made.header["privacy"]["spent"] == pytest.approx(expected, abs=1e-3)
    assert f"so in at most {rounds // 10} of {rounds}" in made.header["privacy"]["statement"]
    assert np.bincount(made.participation).nonzero()[0].tolist() == [rounds // 10]
    # Under the budget it ends before that.
    kept = run(given, rounds=rounds)
    assert kept.header["stopped_by"] == "budget"
    assert kept.header["privacy"]["spent"] <= 3.0
    assert len(kept.records) < rounds


def test_more_rounds_than_the_noise_was_calibrated_for():
    given = plan(fr.gaussian_noise(), budget=fr.Budget(6.0, DELTA, rounds=4))
    with pytest.raises(PlanError, match=r"rounds: given 5; expected at most 4.*Budget.rounds=5"):
        run(given, rounds=5)
    cohorts = CohortSampler(given.rule, people(), 5)
    check_participation(given, cohorts, 4)
    # Where the noise was given, the ledger alone decides.
    check_participation(plan(fr.gaussian_noise(3.0), budget=fr.Budget(6.0, DELTA, rounds=4)), cohorts, 5)


def test_the_advice_for_a_poisson_bound_is_enough_and_no_more():
    for clients, rate, rare in ((40, 0.25, 1e-9), (350, 0.1, 1e-12), (10_000, 0.01, 1e-15)):
        maximum = enough(clients, rate, rare)
        assert (
            probability_beyond(clients, rate, maximum)
            <= rare
            < probability_beyond(clients, rate, maximum - 1)
        )
        minimum_cohort = largest_minimum_cohort(clients, 0.5, rare)
        assert (
            probability_below(clients, 0.5, minimum_cohort)
            <= rare
            < probability_below(clients, 0.5, minimum_cohort + 1)
        )
    for maximum in (5, 10, 20, 39):
        assert probability_beyond(40, 0.25, maximum) == pytest.approx(binom.sf(maximum, 40, 0.25), rel=1e-6)
        assert probability_below(40, 0.25, maximum) == pytest.approx(
            binom.cdf(maximum - 1, 40, 0.25), rel=1e-6
        )
    assert probability_beyond(40, 0.25, 40) == 0.0
    assert probability_below(40, 0.25, 41) == 1.0


@pytest.mark.parametrize(
    ("cohort", "secure", "settings", "message"),
    [
        (
            fr.cohort.poisson(0.25, maximum=40),
            {"minimum_cohort": 3},
            {},
            r"need 3 clients, of about 10 a round",
        ),
        (fr.cohort.poisson(0.8, maximum=50), {"minimum_cohort": 3}, {"dropout": 0.5}, r"need 3.*about 16"),
        (
            fr.cohort.poisson(0.5, maximum=40),
            {"minimum_cohort": 3},
            {"secure_sum": "protocol"},
            r"'protocol', for a guarantee that needs it to be a secret who took part",
        ),
        (10, {}, {"secure_sum": "protocol", "budget": FEW}, r"needs it to be a secret who took part"),
    ],
)
def test_a_round_that_could_show_who_took_part_where_that_is_a_secret_is_refused(
    cohort, secure, settings, message
):
    options = dict(settings)
    budget = options.pop("budget", None)
    secure = {"adversarial_rate": 0.01} | secure
    given = plan(fr.gaussian_noise(3.0), cohort=cohort, secure=secure, budget=budget)
    with pytest.raises(PlanError, match=message):
        run(given, **options)


def test_what_a_poisson_cohort_may_show_follows_from_delta_and_rounds():
    """The bound that is asked for is the least that covers all rounds at this delta, and no constant."""
    asked = []
    for delta, rounds in ((1e-5, 10), (1e-5, 1000), (1e-9, 10)):
        given = plan(
            fr.gaussian_noise(3.0),
            cohort=fr.cohort.poisson(0.1, maximum=20),
            bits=None,
            budget=fr.Budget(2.0, delta),
        )
        with pytest.raises(PlanError, match="poisson maximum") as caught:
            check_participation(given, CohortSampler(given.rule, people(200), 5), rounds)
        maximum = int(re.search(r"Set maximum=(\d+)", str(caught.value))[1])
        allowed = delta * 1e-3 / rounds / (1 + math.e**2) / 2
        assert binom.sf(maximum, 201, 0.1) <= allowed < binom.sf(maximum - 1, 201, 0.1)
        asked.append(maximum)
    assert asked[0] < asked[1] < asked[2]


def test_a_poisson_round_of_nobody_releases_noise():
    """Whether anybody came is a secret: the model moves in every round, and nothing is taken back."""
    given = plan(fr.gaussian_noise(1.0), cohort=fr.cohort.poisson(0.02, maximum=40), bits=None)
    states = []
    made = run(given, rounds=12, on_round=lambda record: states.append(record.clients))
    assert 0 in states[1:]
    nobody = states.index(0, 1) + 1
    before, after = (run(given, rounds=n).params["w"] for n in (nobody - 1, nobody))
    assert not np.array_equal(before, after)
    assert made.header["privacy"]["releases"] == 12
    assert all(np.isfinite(record.noise) for record in made.records)


# -- taking turns ---------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    clients=st.integers(2, 60),
    size=st.integers(1, 20),
    separation=st.integers(1, 12),
    seed=st.integers(0, 1000),
    rounds=st.integers(1, 40),
)
def test_clients_take_turns_evenly_and_far_enough_apart(clients, size, separation, seed, rounds):
    population = people(clients, 1)
    rule = fr.cohort.in_turn(size, separation=separation)
    if size * separation > clients:
        with pytest.raises(PlanError, match="cohort in turn"):
            CohortSampler(rule, population, seed)
        return
    cohorts = CohortSampler(rule, population, seed)
    last, times = {}, np.zeros(clients, int)
    for number in range(1, rounds + 1):
        sampled = cohorts.of(number).sampled
        assert len(set(sampled.tolist())) == size
        for client in sampled.tolist():
            assert number - last.get(client, -1000) >= clients // size >= separation
            last[client] = number
        times[sampled] += 1
        assert times.max() - times.min() <= 1
    assert times.max() <= AtMost(None, separation).maximum(rounds)
    if clients > 15:  # in an order of the seed's own
        others = CohortSampler(rule, population, seed + 1)
        assert (
            any(
                cohorts.of(n).sampled.tolist() != others.of(n).sampled.tolist()
                for n in range(1, clients // size + 1)
            )
            or size == clients
        )
