"""A promise to every example, from end to end: whose noise is in every step, what the ledger says, what is refused."""

import math

import numpy as np
import optax
import pytest
from scipy import stats

import fairyring as fr
from fairyring.cli._ledger import ledger as read_ledger
from fairyring.core.errors import BudgetSpent, PlanError
from fairyring.learning.example_steps import Drawn
from fairyring.privacy.canaries import Canaries
from fairyring.privacy.examples import PoissonBatches, ShuffledBatches, epsilon
from fairyring.privacy.ledger import Ledger
from fairyring.privacy.participation import PoissonSampled
from fairyring.report import write_report
from fairyring.rounds.spending import EarlierRounds, RunSpending
from fairyring.simulation.worker import CompiledWorker
from tests.learning.linear import people, task
from tests.simulation.private_runs import ENTROPY, compiled_once, is_of_variance, ledger, run, same_state

CLIENTS = people([30, 41, 17, 26])
DELTA, RATE, STEPS, MULTIPLIER = 1e-3, 0.2, 3, 1.3


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    with compiled_once():
        yield


def plan(budget=None, *last, multiplier: float | None = MULTIPLIER, cohort=4, **changes) -> fr.Plan:
    usual = {"steps": STEPS, "rate": RATE, "batch_size": 8}
    stages = fr.chain(fr.clip(1.0), fr.gaussian_noise(multiplier))
    return fr.Plan(
        task(),
        fr.LocalTraining(optax.sgd(0.3), examples=stages, **(usual | changes)),
        cohort,
        fr.chain(fr.weight_uniformly(), *last),
        privacy=budget or fr.Budget(math.inf, DELTA, unit="example"),
    )


PLAIN = plan()
MASKED = plan(None, fr.clip(2.0), fr.quantize(bits=16), fr.secure_sum(22, minimum_cohort=3))
EPOCHS = plan(steps=None, rate=None, epochs=2)
COINS = PoissonBatches(RATE)


def noise_of(made: fr.Plan):
    assert made.noise is not None
    return made.noise


class Draws:
    """What clients draw for their steps, as a run makes it.

    Attributes:
        drawn: by (round, client).
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.drawn: dict[tuple[int, int], Drawn] = {}
        real = CompiledWorker._drawn

        def drawn(rounds, piece, noise):
            found = real(rounds, piece, noise)
            assert isinstance(found, Drawn)
            if noise is not None:
                for place, client in enumerate(piece.clients.tolist()):
                    self.drawn[noise.round, client] = Drawn(*(part[place].copy() for part in found))
            return found

        patch.setattr(CompiledWorker, "_drawn", drawn)


# -- noise and batches ----------------------------------------------------------------------------------------


def test_every_step_of_every_client_has_noise_of_the_promised_size(monkeypatch):
    found = Draws(monkeypatch)
    run(PLAIN, rounds=3, population=CLIENTS)
    assert sorted(found.drawn) == [(t, c) for t in (1, 2, 3) for c in range(4)]
    noise = np.stack([one.noise for one in found.drawn.values()])
    assert noise.shape == (12, STEPS, noise_of(PLAIN).coordinates)
    assert is_of_variance(noise, noise_of(PLAIN).sigma ** 2 + 1 / 12)
    assert (
        len({row.tobytes() for row in noise.reshape(-1, noise.shape[-1])}) == 12 * STEPS
    )  # none is used twice


def test_examples_are_in_a_batch_by_coins_of_the_stated_rate(monkeypatch):
    found = Draws(monkeypatch)
    run(PLAIN, rounds=12, population=CLIENTS)
    times = [np.zeros(size) for size in CLIENTS.sizes]
    for (_, client), one in found.drawn.items():
        for row in one.batches:
            chosen = row[row >= 0]
            assert len(set(chosen.tolist())) == len(chosen)
            assert (row[len(chosen) :] == -1).all()
            times[client][chosen] += 1
    tosses = 12 * STEPS
    total = sum(int(one.sum()) for one in times)
    examples = int(np.sum(CLIENTS.sizes))
    assert 1e-6 < stats.binom.cdf(total, tosses * examples, RATE) < 1 - 1e-6
    counts = np.concatenate(times)
    spread = ((counts - tosses * RATE) ** 2).sum() / (tosses * RATE * (1 - RATE))
    assert 1e-6 < stats.chi2.cdf(spread, examples) < 1 - 1e-6  # each by its own coin, each step anew


def test_neither_comes_from_the_seed():
    one, other = run(PLAIN, entropy=None, population=CLIENTS), run(PLAIN, entropy=None, population=CLIENTS)
    assert not same_state(one, other)
    assert same_state(run(PLAIN, population=CLIENTS), run(PLAIN, population=CLIENTS))


def test_what_is_recorded_of_training_is_noisy_too(monkeypatch):
    """Loss and accuracy of a round come from the noisy sums: other noise, other numbers."""
    first, second = (
        run(PLAIN, rounds=1, population=CLIENTS, entropy=bytes([i]) * 32).records[0] for i in (1, 2)
    )
    assert first.loss != second.loss
    assert first.metrics != second.metrics


# -- the ledger -----------------------------------------------------------------------------------------------


def test_the_ideal_sum_and_the_protocol_are_bitwise_alike_and_spend_the_same(tmp_path, capsys):
    runs = {
        mode: run(MASKED, rounds=2, population=CLIENTS, secure_sum=mode, run=tmp_path / mode)
        for mode in ("ideal", "protocol")
    }
    assert same_state(runs["ideal"], runs["protocol"])
    expected = epsilon(MULTIPLIER, steps=2 * STEPS, delta=DELTA, batches=COINS)
    for mode, made in runs.items():
        facts = made.header["privacy"]
        assert facts["spent"] == pytest.approx(expected.epsilon, rel=1e-12)
        assert facts["statement"].endswith(f"Counted was {expected}")  # the test knows the entropy
        promise = ledger(tmp_path / mode).promise
        assert (promise.unit, promise.participation) == ("example", PoissonSampled(RATE))
    read_ledger(tmp_path / "ideal").show()
    said = capsys.readouterr().out
    assert f"Unit: one example; neighbours: {COINS.relation}." in said
    assert f"Assumed: {COINS.sampling}." in said
    assert said.count(f"gaussian, {STEPS} steps") == 2
    titles = {one["title"]: one["text"] for one in runs["ideal"].header["assumptions"]}
    assert "Each client adds the noise itself" in titles
    assert "The server adds the noise" not in titles


def test_epochs_are_counted_without_amplification():
    made = run(EPOCHS, rounds=2, population=CLIENTS)
    expected = epsilon(MULTIPLIER, steps=2 * 2 * 6, delta=DELTA, batches=ShuffledBatches(6))
    assert made.header["privacy"]["spent"] == pytest.approx(expected.epsilon, rel=1e-9)
    assert (
        expected.epsilon > epsilon(MULTIPLIER, steps=24, delta=DELTA, batches=PoissonBatches(1 / 6)).epsilon
    )
    assert "no amplification" in made.header["privacy"]["statement"]


def test_two_runs_add_up_without_their_coins(tmp_path):
    for name in ("a", "b"):
        run(PLAIN, rounds=2, population=CLIENTS, run=tmp_path / name)
    found = fr.privacy.together([tmp_path / "a", tmp_path / "b"])
    assert found.unit == "example"
    expected = epsilon(MULTIPLIER, steps=4 * STEPS, delta=DELTA, batches=ShuffledBatches(1)).epsilon
    assert found.epsilon == pytest.approx(expected, rel=1e-9)


def test_a_round_that_was_lost_counts_and_is_run_again_with_other_coins(tmp_path):
    def draw(spending: RunSpending) -> tuple[np.ndarray, np.ndarray]:
        noise = np.zeros((STEPS, noise_of(PLAIN).coordinates), np.int32)
        batches = np.full((STEPS, 40), -1, np.int32)
        spending.begin(1, 4, 4).draw_steps(0, 30, noise, batches)
        return noise, batches

    first = RunSpending(PLAIN, tmp_path, ENTROPY)
    noise, batches = draw(first)
    first.close(finished=False)
    again = RunSpending(PLAIN, tmp_path, earlier=EarlierRounds(frozenset(), False, None))
    other, others = draw(again)
    assert not (noise == other).all()
    assert not (batches == others).all()
    expected = epsilon(MULTIPLIER, steps=2 * STEPS, delta=DELTA, batches=COINS).epsilon
    assert again.spent().epsilon == pytest.approx(expected, rel=1e-9)
    again.close(finished=True)


def test_a_round_whose_sum_is_not_released_counts_all_the_same(tmp_path):
    """Each client's update was a release to whoever got it."""
    made = run(MASKED, rounds=6, population=CLIENTS, dropout=0.5, run=tmp_path / "run")
    assert any(record.aborted is not None for record in made.records)
    expected = epsilon(MULTIPLIER, steps=6 * STEPS, delta=DELTA, batches=COINS).epsilon
    assert made.header["privacy"]["spent"] == pytest.approx(expected, rel=1e-9)
    assert sum(one.lost for one in Ledger.read(tmp_path / "run" / "ledger.sqlite").reservations.values()) > 0


def test_a_budget_ends_a_run():
    limit = epsilon(MULTIPLIER, steps=2 * STEPS, delta=DELTA, batches=COINS).epsilon * 1.001
    made = run(plan(fr.Budget(limit, DELTA, unit="example")), rounds=4, population=CLIENTS)
    assert (len(made.records), made.header["stopped_by"]) == (2, "budget")
    with pytest.raises(BudgetSpent):
        run(plan(fr.Budget(limit / 4, DELTA, unit="example")), rounds=1, population=CLIENTS)


def test_a_run_goes_on_where_it_stopped(tmp_path):
    whole = run(PLAIN, rounds=4, population=CLIENTS)
    run(PLAIN, rounds=2, population=CLIENTS, run=tmp_path / "run", checkpoint_every=1)
    (tmp_path / "run" / "noise.key").write_bytes(ENTROPY)  # a finished run has thrown it away
    resumed = run(PLAIN, rounds=4, population=CLIENTS, run=tmp_path / "run", resume=True, entropy=None)
    assert same_state(whole, resumed)


# -- what is refused ------------------------------------------------------------------------------------------


def test_what_a_population_cannot_keep_is_refused():
    with pytest.raises(PlanError, match="a client with a single example"):
        run(PLAIN, population=people([30, 1, 20, 9]))
    with pytest.raises(PlanError, match="batch_size"):
        run(plan(batch_size=1), population=people([200, 300, 20, 20]))
    budget = fr.Budget(5.0, DELTA, rounds=2, unit="example")
    with pytest.raises(PlanError, match="at most 2, which the noise was calibrated for"):
        run(plan(budget, multiplier=None), rounds=3, population=CLIENTS)
    with pytest.raises(PlanError, match="canaries, which are clients"):
        run(PLAIN, population=CLIENTS, audit=Canaries(30))


def test_a_delta_too_large_for_so_many_examples_is_warned_of():
    made = plan(fr.Budget(math.inf, 0.01, unit="example"))
    with pytest.warns(fr.PrivacyWarning, match="one of 114 examples to be exposed"):
        run(made, rounds=1, population=CLIENTS)


# -- what is said ---------------------------------------------------------------------------------------------


def test_report_and_record_speak_of_examples(tmp_path):
    run(PLAIN, rounds=2, population=CLIENTS, run=tmp_path / "run", evaluate_every=1)
    text = write_report(tmp_path / "run").read_text()
    assert "What the model may tell about one example" in text
    assert "every example, a row of a client" in text
    assert f"added by every client in each local step; counted for {STEPS} steps a round" in text
    assert COINS.relation in text
    assert "about one device" not in text
    assert "No canaries were sent into this plan: they are clients" in text


def test_members_told_by_shadow_runs_are_not_held_against_what_is_promised_to_examples():
    found = fr.membership(PLAIN, CLIENTS, rounds=1, shadows=8, processors=1)
    assert (found.claimed, found.describe()["unit"]) == (None, "example")
    assert "what this plan claims is of one example" in found.statement
