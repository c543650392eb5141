"""The direct check within runs: honest plans pass and are not changed by it, and what canaries do not see is found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fairyring as fr
from fairyring.aggregation.contract import BoundStage, Message, MessageSpec, Stage
from fairyring.core.errors import PlanError
from fairyring.privacy import DirectCheck
from fairyring.privacy.ledger import Ledger
from fairyring.privacy.source import NoiseSource
from fairyring.rounds.server_program import Sums
from fairyring.rounds.spending import RoundNoise
from fairyring.simulation.worker import CompiledWorker
from tests.simulation import private_runs
from tests.simulation.private_runs import (
    CLASSES,
    FEATURES,
    compiled_once,
    people,
    plan,
    same_state,
    unguarded,
)

ROUNDS = 4
D = FEATURES * CLASSES + CLASSES
SLOW = pytest.mark.slow  # for a plan of its own to compile
TURNS = fr.cohort.in_turn(10, separation=4)
PEOPLE = people(60)  # of whom half are enough canaries


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    with compiled_once():
        yield


CENTRAL = plan(fr.gaussian_noise(1.5), cohort=TURNS)
CLEAR = plan(fr.gaussian_noise(1.5), bits=None)
CORRELATED = plan(fr.correlated_noise(1.5, bands=3), cohort=TURNS)
SKELLAM = plan(fr.distributed_noise("skellam", 1.5, shares=5), fr.rotate(), bits=22)
DISCRETE = plan(fr.distributed_noise("discrete_gaussian", 1.5, shares=5), fr.rotate(), bits=22)
TOPPED = plan(
    fr.distributed_noise("skellam", 1.5, shares=9, shortfall="top_up"),
    bits=22,
    secure={"dropout_rate": 0.4, "minimum_cohort": 3},
)


def run(given: fr.Plan, rounds: int = 3, **options: Any) -> fr.Run:
    return private_runs.run(given, rounds, PEOPLE, **options)


def checked(given: fr.Plan, rounds: int = ROUNDS, **options: Any) -> dict[str, Any]:
    return run(given, rounds, **({"audit": DirectCheck(), "entropy": None} | options)).header["audit"][
        "mechanism"
    ]


def failed(found: dict[str, Any]) -> set[str]:
    assert found["holds"] is all(test["holds"] for test in found["tests"])
    return {test["name"] for test in found["tests"] if not test["holds"]}


# -- what is honest holds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "options"),
    [
        pytest.param(CENTRAL, {}, id="central"),
        pytest.param(CLEAR, {"dropout": 0.2}, id="in the clear", marks=SLOW),
        pytest.param(CORRELATED, {"rounds": 8}, id="correlated"),
        pytest.param(SKELLAM, {"dropout": 0.1}, id="skellam"),
        pytest.param(SKELLAM, {"secure_sum": "protocol", "dropout": 0.1}, id="skellam protocol"),
        pytest.param(DISCRETE, {}, id="discrete gaussian", marks=SLOW),
        pytest.param(DISCRETE, {"secure_sum": "protocol"}, id="discrete gaussian protocol", marks=SLOW),
        pytest.param(TOPPED, {"dropout": 0.3}, id="topped up", marks=SLOW),
        pytest.param(TOPPED, {"secure_sum": "protocol", "dropout": 0.3}, id="topped up protocol", marks=SLOW),
        pytest.param(
            plan(fr.gaussian_noise(1.5), fr.weight_by_examples(bound=6)), {}, id="weighted", marks=SLOW
        ),
        pytest.param(
            plan(fr.gaussian_noise(1.5), cohort=fr.cohort.poisson(0.25, maximum=39), bits=None),
            {"rounds": 6},
            id="poisson",
            marks=SLOW,
        ),
        pytest.param(plan(fr.gaussian_noise(1.5), algorithm=fr.scaffold()), {}, id="scaffold", marks=SLOW),
    ],
)  # fmt: skip
@pytest.mark.campaign(3)
@pytest.mark.dealt(3, "given")
def test_an_honest_plan_holds(given, options, part):
    found = checked(given, seed=part, **options)
    assert failed(found) == set(), found["statement"]
    assert found["rounds"] >= 1
    assert found["ratio"] == pytest.approx(1, abs=6 * found["resolution"])


@pytest.mark.parametrize("secure_sum", ["ideal", "protocol"])
def test_a_check_changes_nothing(secure_sum):
    alone, seen = (
        run(SKELLAM, secure_sum=secure_sum),
        run(SKELLAM, secure_sum=secure_sum, audit=DirectCheck()),
    )
    assert same_state(alone, seen)
    assert alone.header["privacy"]["spent"] == seen.header["privacy"]["spent"]
    assert alone.header.get("audit") is None


@SLOW
def test_a_check_changes_nothing_that_clients_remember():
    given = plan(fr.gaussian_noise(1.5), algorithm=fr.scaffold())
    assert same_state(run(given), run(given, audit=DirectCheck()))


def test_canaries_bring_the_check_and_show_the_whole_norm():
    found = run(CENTRAL, ROUNDS, audit=fr.privacy.Canaries(30)).header["audit"]
    assert found["holds"]
    assert failed(found["mechanism"]) == set()
    # They push as far as the clip lets them, weight, loss and accuracy included.
    assert 0.99 < found["mechanism"]["longest"] <= 1


def test_a_resumed_run_checks_the_rounds_that_were_left(tmp_path):
    options = {"run": tmp_path / "run", "checkpoint_every": 1, "audit": DirectCheck()}

    def stop(record):
        if record.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(CORRELATED, 8, **options, on_round=stop)
    found = checked(CORRELATED, 8, **options, resume=True)
    assert found["rounds"] == 6
    assert failed(found) == set()


def test_a_check_without_a_promise():
    bare = fr.Plan(CENTRAL.task, local=CENTRAL.local, cohort=10, aggregation=fr.clip(1.0))
    with pytest.raises(PlanError, match="DirectCheck"):
        run(bare, audit=DirectCheck())


# -- what is not is found -------------------------------------------------------------------------------------

of_server, of_clients, of_client = NoiseSource.of_server, NoiseSource.of_clients, NoiseSource.of_client


def server(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Plant a change in the server's noise: `change(noise, round)`."""
    patch.setattr(NoiseSource, "of_server", lambda s, r, n: change(of_server(s, r, n).copy(), r))


def emptied(place: slice) -> Any:
    def change(noise: np.ndarray, round: int) -> np.ndarray:
        noise[place] = 0
        return noise

    return change


def test_noise_that_lacks_in_a_third_of_the_coordinates(monkeypatch):
    server(monkeypatch, emptied(slice(100, 180)))
    assert "coordinates without noise" in failed(checked(CENTRAL, 1))


def test_noise_that_lacks_in_loss_and_accuracy(monkeypatch):
    server(monkeypatch, emptied(slice(D, None)))
    found = checked(CENTRAL)
    assert "noise in each part" in failed(found)
    # Both lack it, and the one that lies further out is named.
    assert any(f"In {name} it has" in found["statement"] for name in ("loss", "accuracy"))


def test_noise_on_the_first_half(monkeypatch):
    server(monkeypatch, emptied(slice(D // 2, None)))
    assert "coordinates without noise" in failed(checked(CENTRAL, 1))


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_noise_of_another_size(monkeypatch, factor):
    server(monkeypatch, lambda noise, round: np.rint(factor * noise).astype(np.int64))
    found = checked(CENTRAL)
    assert "noise in all" in failed(found)
    assert found["ratio"] == pytest.approx(factor, abs=0.1)


def test_noise_of_round_one_again(monkeypatch):
    monkeypatch.setattr(NoiseSource, "of_server", lambda s, r, n: of_server(s, 1, n))
    assert "noise of two rounds" in failed(checked(CENTRAL))


def test_correlated_noise_with_the_wrong_sign(monkeypatch):
    def wrong(source, round, numbers):
        first = of_server(source, round, numbers)
        noise = replace(source.noise, mechanism="gaussian")
        fresh = of_server(NoiseSource(noise, source._root), round, numbers)
        return 2 * fresh - first  # what should be taken back is added

    monkeypatch.setattr(NoiseSource, "of_server", wrong)
    assert not checked(CORRELATED, 12)["holds"]


def test_noise_that_wraps_around_on_its_way(monkeypatch):
    server(monkeypatch, lambda noise, round: ((noise + 8192) & 16383) - 8192)
    assert "noise in all" in failed(checked(CENTRAL, 1))


def test_a_share_that_is_missing(monkeypatch):
    monkeypatch.setattr(NoiseSource, "of_clients", lambda s, n, clients: of_clients(s, n, clients - 2))
    assert "noise in all" in failed(checked(SKELLAM, 12))


def test_shares_of_the_wrong_size_under_the_protocol(monkeypatch):
    monkeypatch.setattr(NoiseSource, "of_client", lambda s, n, c: of_client(s, n, c) // 2)
    assert "noise in all" in failed(checked(SKELLAM, secure_sum="protocol"))


def test_one_client_that_sends_no_share_under_the_protocol(monkeypatch):
    def lazy(source, number, client):
        return of_client(source, number, client) * (client % 2)

    monkeypatch.setattr(NoiseSource, "of_client", lazy)
    assert "noise in all" in failed(checked(SKELLAM, secure_sum="protocol"))


@SLOW
def test_shares_that_are_not_topped_up(monkeypatch):
    monkeypatch.setattr(NoiseSource, "missing", lambda s, n, shares: np.zeros(s.noise.coordinates, np.int64))
    assert "noise in all" in failed(checked(TOPPED, 40, dropout=0.5))


def test_noise_that_never_reaches_the_sum(monkeypatch):
    real = RoundNoise.release

    def forgotten(noise, total, clients, *, shared):
        real(noise, total, clients, shared=shared)
        return total

    monkeypatch.setattr(RoundNoise, "release", forgotten)
    assert "coordinates without noise" in failed(checked(CENTRAL, 1))


def test_a_client_that_is_added_twice(monkeypatch):
    real = CompiledWorker.accumulate

    def twice(self, work):
        total = real(self, work)
        message, *rest = total.parts[0]
        doubled = Sums(message._replace(vector=message.vector + message.vector), *rest)
        return total._replace(parts=(doubled, *total.parts[1:]))

    monkeypatch.setattr(CompiledWorker, "accumulate", twice)
    assert {"coordinates in the clear", "noise apart from the sum"} & failed(checked(CENTRAL))


def test_a_ledger_that_counts_more_noise_than_there_is(monkeypatch):
    real = Ledger.reserve
    monkeypatch.setattr(Ledger, "reserve", lambda s, r, release: real(s, r, replace_multiplier(release, 1.1)))

    def replace_multiplier(release, factor):
        return type(release)(release.mechanism, release.multiplier * factor)

    assert failed(checked(CENTRAL)) == {"noise that is counted"}


def planted(honest: Stage, encode: Any) -> Stage:
    """A stage that states what `honest` states and does something else."""

    def bind(spec: MessageSpec) -> BoundStage:
        return honest.bind(spec)._replace(encode=encode)

    return replace(honest, bind=bind)


@SLOW
def test_a_clip_a_third_too_long(monkeypatch):
    unguarded(monkeypatch)
    real = fr.clip(1.3)

    def longer(message: Message, client_key: Any, round_key: Any) -> Message:
        return real.bind(MessageSpec(message.vector.shape[0], 10)).encode(message, client_key, round_key)

    given = plan(fr.gaussian_noise(1.5), planted(fr.clip(1.0), longer), cohort=TURNS)
    found = checked(given, audit=fr.privacy.Canaries(30))
    assert "L2 norm" in failed(found)
    assert found["longest"] == pytest.approx(1.3, rel=0.05)


def test_a_client_that_is_not_clipped(monkeypatch):
    real = CompiledWorker.encoded

    def one_longer(self, work, faulty, *, keep=True):
        for place, (client, vector) in enumerate(real(self, work, faulty, keep=keep)):
            yield client, vector * np.uint32(3) if not place else vector

    monkeypatch.setattr(CompiledWorker, "encoded", one_longer)
    assert "L2 norm" in failed(checked(SKELLAM, 1, secure_sum="protocol"))


def test_what_an_audit_contradicts_stays_contradicted_when_the_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = plan(fr.gaussian_noise(2.0), bits=None, cohort=TURNS, budget=fr.Budget(50.0, 1e-5))
    release = RoundNoise.release

    def noiseless(noise: RoundNoise, total: np.ndarray, clients: int, *, shared: bool) -> np.ndarray:
        release(noise, total, clients, shared=shared)
        return total

    def run(rounds: int, **options: Any) -> dict[str, Any]:
        settings = {"run": tmp_path / "run", "audit": DirectCheck(), "entropy": None} | options
        return private_runs.run(given, rounds, PEOPLE, **settings).header

    def nothing(header: dict[str, Any]) -> bool:
        titles = {one["title"] for one in header["assumptions"]}
        assert ("Differential privacy for every device" in titles) != ("Nothing is promised" in titles)
        assert ("Nothing is promised" in titles) == (header["privacy"]["why_nothing"] is not None)
        return "Nothing is promised" in titles

    monkeypatch.setattr(RoundNoise, "release", noiseless)
    assert nothing(run(1))
    monkeypatch.setattr(RoundNoise, "release", release)
    assert nothing(run(1, resume=True, audit=None))  # there is nothing left to run, or to see
    assert nothing(run(2, resume=True))  # what is run now is as it is claimed
    last = run(3, resume=True, audit=None)
    assert nothing(last)
    assert last["audit"]["mechanism"]["rounds"] == 1


def test_what_an_audit_found_stays_when_nothing_is_run_any_more(tmp_path: Path) -> None:
    given = plan(fr.gaussian_noise(2.0), bits=None, cohort=TURNS, budget=fr.Budget(50.0, 1e-5))
    settings: dict[str, Any] = {"run": tmp_path / "run", "audit": DirectCheck(), "entropy": None}
    first = private_runs.run(given, 1, PEOPLE, **settings).header["audit"]
    assert first["mechanism"]["holds"]
    again = private_runs.run(given, 1, PEOPLE, resume=True, **settings).header
    assert again["audit"] == first
    more = private_runs.run(given, 3, PEOPLE, resume=True, **settings).header
    assert more["audit"]["mechanism"]["rounds"] == 2  # those that this process ran
    assert more["privacy"]["why_nothing"] is None


def test_an_audit_that_does_not_look_again_leaves_a_contradiction(tmp_path: Path) -> None:
    given = plan(fr.gaussian_noise(2.0), bits=None, cohort=TURNS, budget=fr.Budget(50.0, 1e-5))
    folder = tmp_path / "run"
    private_runs.run(given, 1, PEOPLE, run=folder, entropy=None)
    refuted, stands = {"holds": False, "claimed": 1.0, "lower": 2.0}, {"holds": True}
    earlier = {
        "mechanism": refuted,
        "canaries": refuted,
        "membership": stands,
        "reconstruction": {"reads": 1},
    }
    (folder / "audit.json").write_text(json.dumps(earlier))
    found = fr.audit_run(folder, given, PEOPLE, canaries=0, targets=0, shadows=0)
    assert found.holds
    kept = json.loads((folder / "audit.json").read_text())
    assert kept["mechanism"]["holds"]  # it was looked at again
    assert kept["canaries"] == refuted
    assert kept.keys() == {"mechanism", "canaries"}
    (folder / "audit.json").write_text("no record")
    fr.audit_run(folder, given, PEOPLE, canaries=0, targets=0, shadows=0)
    assert json.loads((folder / "audit.json").read_text()).keys() == {"mechanism"}
