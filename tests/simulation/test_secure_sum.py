"""The masked protocol behind a plan: the same bits as adding integers, and everything else it says of itself."""

from collections.abc import Iterator
from typing import Any

import jax
import msgspec
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.rounds.cohorts import CohortSampler, DropoutPoint
from fairyring.simulation import masked
from tests.learning.linear import people, task
from tests.simulation.private_runs import compiled_once

pytestmark = pytest.mark.optimised

SIZES = [7, 12, 4, 9, 31, 2, 5, 8]


def plan(cohort: Any = 6, bits: int = 24, clip: float = 0.5, quantized: int = 12, **options: Any) -> fr.Plan:
    algorithm = options.pop("algorithm", None)
    chain = fr.chain(fr.clip(clip), fr.quantize(bits=quantized), fr.secure_sum(bits, **options))
    return fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(0.2), epochs=1, batch_size=4),
        server=fr.fedavgm(0.7),
        cohort=cohort,
        aggregation=chain,
        **({"algorithm": algorithm} if algorithm else {}),
    )


PLAIN = plan()


@pytest.fixture(scope="module", autouse=True)
def _compiled_once() -> Iterator[None]:
    with compiled_once():
        yield


def run(given: fr.Plan, mode: str, **options: Any) -> fr.Run:
    settings = {"rounds": 4, "seed": 5} | options
    return fr.simulate(given, people(SIZES), secure_sum=mode, **settings)  # type: ignore[arg-type]


def same_state(a: fr.Run, b: fr.Run) -> bool:
    pairs = zip(jax.tree.leaves(a.state), jax.tree.leaves(b.state), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in pairs)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (PLAIN, {}),
        (plan(bits=17), {"processors": 1}),
        (plan(cohort=8, bits=32, dropout_rate=0.3, minimum_cohort=3), {"dropout": 0.15}),
        (plan(bits=16, quantized=10, threat="semi_malicious"), {"clients_per_batch": 2}),
        (plan(cohort=fr.cohort.poisson(0.8, maximum=8), minimum_cohort=3), {"dropout": 0.1}),
        (plan(algorithm=fr.scaffold(), clip=5.0), {"dropout": 0.1}),
    ],
    ids=[
        "plain",
        "17 bits, one core",
        "dropouts",
        "lying server, two clients a batch",
        "poisson",
        "scaffold",
    ],
)
def test_the_protocol_gives_bitwise_the_model_of_adding_integers(given, options):
    ideal, protocol = run(given, "ideal", **options), run(given, "protocol", **options)
    assert not any(record.aborted is not None for record in protocol.records)
    assert same_state(ideal, protocol)
    for a, b in zip(ideal.records, protocol.records, strict=True):
        timed = {"seconds": 0.0, "bytes_up": 0, "bytes_down": 0}
        assert msgspec.structs.replace(a, **timed) == msgspec.structs.replace(b, **timed)
        if not options.get("dropout"):
            assert a.bytes_up == b.bytes_up
    assert np.array_equal(ideal.participation, protocol.participation)


def test_bytes_are_known_beforehand_to_the_last_one():
    """Where nobody vanishes and indices take one byte, as with up to 128 clients."""
    given = PLAIN
    record = run(given, "protocol").records[0]
    assert record.bytes_up == 6 * given.bytes_up
    assert record.bytes_down == 6 * given.bytes_down


def test_masks_differ_between_runs_and_sums_do_not(tmp_path):
    first, second = (tmp_path / name for name in ("first", "second"))
    a, b = run(PLAIN, "protocol", run=first), run(PLAIN, "protocol", run=second)
    assert same_state(a, b)
    shown = [(path / "exhibit.safetensors").read_bytes() for path in (first, second)]
    assert shown[0] != shown[1]
    sums = [(path / "secure_sum" / "round-000004.sum").read_bytes() for path in (first, second)]
    assert sums[0] == sums[1]


@pytest.mark.parametrize("mode", ["ideal", "protocol"])
def test_a_sum_of_too_few_is_not_released_and_changes_nothing(mode):
    given = plan(cohort=8, minimum_cohort=8, dropout_rate=0.3)
    done = run(given, mode, dropout=0.5, rounds=3)
    started = run(given, mode, dropout=0.5, rounds=1)
    assert [record.clients for record in done.records] == [0, 0, 0]
    assert all(record.aborted.stage in ("masking", "sharing", "advertising") for record in done.records)
    assert all(np.isnan(record.loss) for record in done.records)
    assert same_state(done, started)


def test_too_many_that_vanish_after_their_input_end_the_session_and_say_where(monkeypatch):
    everybody = {client: DropoutPoint.BEFORE_UNMASKING for client in range(8)}
    monkeypatch.setattr(CohortSampler, "dropout_points", lambda self, cohort: everybody)
    done = run(PLAIN, "protocol", rounds=1)
    assert done.records[0].clients == 0
    assert done.records[0].aborted.stage == "unmasking"
    assert "vanished" in done.records[0].aborted.reason


def test_large_cohorts_keep_their_inputs_in_a_file(monkeypatch):
    monkeypatch.setattr(masked, "HELD_BYTES", 10)
    used = []
    real = masked.FileLog
    monkeypatch.setattr(masked, "FileLog", lambda *a, **k: used.append(a) or real(*a, **k))
    assert same_state(run(PLAIN, "ideal", rounds=2), run(PLAIN, "protocol", rounds=2))
    assert len(used) == 2
    assert not any(path.exists() for (path,) in used)


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cohort": 2}, "at least 3 clients"),
        ({"minimum_cohort": 2}, "minimum_cohort: given 2"),
        ({"minimum_cohort": 7}, "from 3 to 6"),
        ({"threat": "malicious"}, "'semi_honest' or 'semi_malicious'"),
        ({"adversarial_rate": 0.5, "dropout_rate": 0.5}, "adversarial_rate=0.45 and dropout_rate=0.45"),
        ({"dropout_rate": 1.0}, r"dropout_rate: given 1.0; expected a fraction in \[0, 1\)"),
        ({"cohort": 10, "threat": "semi_malicious", "dropout_rate": 0.4}, "at least 6 neighbours that stay"),
        ({"bits": 16, "quantized": 16}, "cannot wrap around"),
    ],
)
def test_plans_whose_secure_sum_cannot_hold_are_refused_when_made(options, message):
    with pytest.raises(fr.PlanError, match=message):
        plan(**options)


def test_simulations_that_make_no_sense():
    with pytest.raises(fr.PlanError, match="'ideal', or 'protocol'"):
        run(PLAIN, "masked")
    bare = fr.Plan(task(), local=fr.LocalTraining(optax.sgd(0.1), batch_size=4), cohort=3)
    with pytest.raises(fr.PlanError, match="for a plan without a secure sum"):
        run(bare, "protocol")


def test_a_run_goes_on_as_it_began_and_to_the_same_bits(tmp_path):
    whole = run(PLAIN, "protocol", run=tmp_path / "whole", rounds=6, dropout=0.1)
    run(PLAIN, "protocol", run=tmp_path / "parts", rounds=3, dropout=0.1, checkpoint_every=2)
    with pytest.raises(fr.RunMismatch, match="another secure_sum: protocol"):
        run(PLAIN, "ideal", run=tmp_path / "parts", resume=True, rounds=6, dropout=0.1)
    parts = run(PLAIN, "protocol", run=tmp_path / "parts", resume=True, rounds=6, dropout=0.1)
    assert same_state(whole, parts)
    assert fr.verify_run(tmp_path / "parts").rounds == 6


# -- the plan and the run say what is promised ----------------------------------------------------------------


def test_the_plan_states_what_the_server_learns_and_under_which_assumption():
    promise = plan(threat="semi_malicious", adversarial_rate=0.2, dropout_rate=0.1).describe()["secure_sum"]
    assert "sum of at least 3 devices' vectors modulo 2^24" in promise["says"]
    assert "announce different survivors" in promise["says"]
    assert "together with up to 1 of a session's 6 devices; at least 2 others are in a sum" in promise["says"]
    alone = plan(adversarial_rate=0.1, dropout_rate=0.1).describe()["secure_sum"]["says"]
    assert "at a rate of 10% none of 6 devices may work together with it" in alone
    assert (promise["degree"], promise["threshold"]) == (5, 4)


def test_terms_name_the_plan_and_change_with_it():
    assert plan().terms == plan().terms
    assert plan().terms.plan == bytes.fromhex(plan().digest())
    for other in (
        plan(clip=0.6),
        plan(threat="semi_malicious"),
        plan(dropout_rate=0.2),
        plan(minimum_cohort=4),
    ):
        assert other.terms.plan != plan().terms.plan
    plain = fr.Plan(task(), local=fr.LocalTraining(optax.sgd(0.1), batch_size=4), cohort=3)
    assert plain.terms is None


def test_a_run_says_what_was_private_about_it():
    kinds = {
        mode: {a["title"]: a["kind"] for a in run(PLAIN, mode, rounds=1).header["assumptions"]}
        for mode in ("ideal", "protocol")
    }
    assert kinds["ideal"]["The secure sum is simulated in its ideal form"] == "not_private"
    assert kinds["protocol"]["The server sees only sums"] == "private"
    assert kinds["protocol"]["One process played all parties"] == "assumed"


# -- who vanishes when --------------------------------------------------------------------------------------


def test_clients_vanish_at_every_point_and_before_their_input_exactly_those_that_drop_out():
    population = people([3] * 400)
    cohorts = CohortSampler(fr.cohort.uniform(200), population, 3, 0.3)
    seen = {point: 0 for point in DropoutPoint}
    for number in range(1, 6):
        cohort = cohorts.of(number)
        dropout_points = cohorts.dropout_points(cohort)
        early = {client for client, point in dropout_points.items() if point <= DropoutPoint.BEFORE_INPUT}
        assert early == set(cohort.sampled.tolist()) - set(cohort.staying.tolist())
        again = CohortSampler(fr.cohort.uniform(200), population, 3, 0.3)
        assert again.dropout_points(again.of(number)) == dropout_points
        for point in dropout_points.values():
            seen[point] += 1
    staying, early = 700, 300  # expected of a thousand
    assert all(abs(seen[point] - early / 3) < 45 for point in list(DropoutPoint)[:3])
    assert all(abs(seen[point] - 0.15 * staying) < 45 for point in list(DropoutPoint)[3:])


def test_nobody_vanishes_without_dropout():
    cohorts = CohortSampler(fr.cohort.uniform(3), people(SIZES), 3)
    assert cohorts.dropout_points(cohorts.of(1)) == {}
