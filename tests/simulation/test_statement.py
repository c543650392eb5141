"""What a run says of its privacy: each sentence is there when it holds, and is not, or is another, when it does not."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import optax
import pytest

import fairyring as fr
from fairyring.aggregation.contract import Stage
from fairyring.core.rounding import at_most
from fairyring.rounds import sentences as module
from fairyring.rounds.artefacts import outside
from fairyring.rounds.ran import Ran
from fairyring.rounds.sentences import SENTENCES
from fairyring.rounds.statement import guarantee, statement, two_epsilons
from fairyring.task import RowsChecked
from tests.simulation.kept_runs import COINS as SAMPLED
from tests.simulation.kept_runs import OTHERS, PEOPLE, Kept
from tests.simulation.private_runs import DELTA, compiled_once, ledger, plan, run, task

SPENT = {
    "spent": 3.25,
    "accountant": "exact Gaussian",
    "assumed": "in every round",
    "releases": 7,
    "reservations": 9,
}
LIMIT = fr.Budget(8.0, DELTA)


@cache
def without(*stages: Stage, **more: Any) -> fr.Plan:
    return fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(0.1), batch_size=4),
        cohort=10,
        aggregation=fr.chain(*stages),
        **more,
    )


@cache
def private(bits: int | None = None, **more: Any) -> fr.Plan:
    settings: dict[str, Any] = {"budget": LIMIT} | more
    return plan(fr.gaussian_noise(2.0), bits=bits, **settings)


@cache
def shared(shortfall: str = "abort", shares: int = 6, **more: Any) -> fr.Plan:
    secure = {"dropout_rate": 0.4, "minimum_cohort": 3} if shortfall == "top_up" else None
    noise = fr.distributed_noise("skellam", 2.0, shares=shares, shortfall=shortfall)
    return plan(noise, bits=22, budget=LIMIT, secure=secure, **more)


def ran(given: fr.Plan, **more: Any) -> Ran:
    return Ran(given, **({"clients": 40, "sizes": (3, 4)} | more))


@cache
def silos(**local: Any) -> fr.Plan:
    """A plan that promises something to every example."""
    settings: dict[str, Any] = {"steps": 3, "rate": 0.2, "batch_size": 4} | local
    stages = fr.chain(fr.clip(1.0), fr.gaussian_noise(2.0))
    return fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(0.1), examples=stages, **settings),
        cohort=10,
        aggregation=fr.chain(fr.weight_uniformly()),
        privacy=fr.Budget(8.0, DELTA, unit="example"),
    )


def turns(separation: int) -> fr.Plan:
    return private(cohort=fr.cohort.in_turn(10, separation=separation))


CORRELATED = plan(
    fr.correlated_noise(2.0, bands=3),
    bits=None,
    budget=fr.Budget(8.0, DELTA),
    cohort=fr.cohort.in_turn(10, separation=4),
)
COINS = plan(fr.gaussian_noise(2.0), bits=None, budget=LIMIT, cohort=fr.cohort.poisson(0.25, most=33))
REFUTED = {"holds": False, "claimed": 3.25}
HELD = {"holds": True, "claimed": 3.25}
SILOS = silos()
NOBODY = [{"clients": 0}, {"clients": 9}]
LOST = [{"round": 1, "lost_in_noise": ["loss"]}, {"round": 2}]
ABORTED = [{"round": 1, "aborted": ["masking", "few"]}, {"round": 2}]

# Of each sentence: a run where it holds, with words of it; and one where it does not, or says something else.
CASES: dict[str, list[tuple[Ran, str, Ran, str | None]]] = {
    "examples_stay": [(ran(without()), "244 numbers and 3 values", ran(without(algorithm=fr.scaffold())), "488 numbers")],
    "updates_are_seen": [(ran(private()), "added in the clear", ran(private(24)), None)],
    "only_sums_are_seen": [
        (ran(private(24), secure_sum="protocol"), "at least 5 devices", ran(private(24)), None),
        (ran(private(24), secure_sum="protocol"), "modulo 2^24", ran(private(26), secure_sum="protocol"), "modulo 2^26"),
    ],
    "one_process": [(ran(private(24), secure_sum="protocol"), "in this process", ran(private(24)), None)],
    "ideal_sum": [
        (ran(private(24)), "modulo 2^24", ran(private(24), secure_sum="protocol"), None),
        (ran(private(24)), "without the protocol's masks", ran(private()), None),
    ],
    "no_promise": [(ran(without()), "No noise was added", ran(private()), None)],
    "nothing_is_promised": [
        (ran(private(), entropy_given=True), "given by the caller", ran(private()), None),
        (ran(private(), spent=SPENT, audit=REFUTED), "audit contradicts", ran(private(), spent=SPENT, audit=HELD), None),
    ],
    "no_limit": [(ran(private(budget=fr.Budget(float("inf"), DELTA))), "no budget stopped it", ran(private()), None)],
    "promise": [
        (ran(private()), "are (8, 1e-05)-differentially private with respect", ran(private(), entropy_given=True), None),
        (ran(private(), spent=SPENT), "are (3.25, 1e-05)-", ran(private(), spent=SPENT, audit=REFUTED), None),
        (ran(private()), "zero-out", ran(COINS), "add or remove one device"),
        (ran(turns(4)), "once in 4 rounds", ran(turns(2)), "once in 2 rounds"),
        (ran(private()), "all data of one device", ran(private(budget=fr.Budget(float("inf"), DELTA))), None),
        (ran(private()), "all data of one device", ran(without()), None),
        (ran(SILOS), "with respect to one example", ran(private()), "with respect to all data of one device"),
        (ran(SILOS), "one example replaced by none", ran(private()), "one device's data replaced by none"),
    ],
    "whom_it_covers": [
        (ran(private()), "40 clients with 3 to 4 examples", ran(private(), clients=7, sizes=(2, 2)), "7 clients with 2 examples"),
        (ran(private()), "each client", ran(without()), None),
        (ran(private()), "each client", ran(SILOS), None),
    ],
    "delta_is_large": [
        (ran(private(budget=fr.Budget(8.0, 0.025))), "0.025 and 40 clients", ran(private(budget=fr.Budget(8.0, 0.0249))), None),
        (ran(private(), clients=10**5), "well below 1 / 100,000", ran(private(), clients=10**5 - 1), None),
        (ran(private(), clients=10**5), "delta 1e-05", ran(without(), clients=10**5), None),
        (ran(SILOS, examples=10**5), "1e-05 and 100,000 examples", ran(SILOS, clients=10**5, examples=10**5 - 1), None),
    ],
    "what_was_counted": [
        (ran(private(), spent=SPENT), "7 releases of 9 reservations, added up by exact Gaussian. 2 of", ran(private()), None),
        (ran(private(), spent=SPENT), "2 of them", ran(private(), spent=SPENT | {"reservations": 7}), "of 7 reservations"),
    ],
    "not_ended": [(ran(private()), "fairyring ledger", ran(private(), spent=SPENT), None)],
    "other_runs": [(ran(private()), "Another run", ran(without()), None)],
    "server_adds_noise": [
        (ran(private()), "trusted to forget it", ran(shared()), None),
        (ran(private()), "trusted to forget it", ran(SILOS), None),
        (ran(private(24), secure_sum="protocol"), "Transcripts name", ran(private(24)), "to itself."),
    ],
    "noise_is_correlated": [(ran(CORRELATED), "take back noise", ran(private()), None)],
    "clients_add_noise": [
        (ran(shared()), "shares of 6 honest clients", ran(shared(shares=5)), "shares of 5 honest clients"),
        (ran(shared()), "that were asked up to 10% may", ran(private()), None),
    ],
    "each_step_is_noisy": [
        (ran(SILOS), "counts 3 of them", ran(private()), None),
        (ran(SILOS), "are mostly noise", ran(private()), None),
        (ran(silos(steps=5)), "counts 5 of them", ran(SILOS), "counts 3 of them"),
    ],
    "who_is_in_a_batch": [
        (ran(SILOS), "Coins and noise come from", ran(silos(steps=None, rate=None, epochs=1)), None),
        (ran(SILOS), "Coins and noise come from", ran(COINS), None),
    ],
    "before_training": [(ran(SILOS), "means to standardise by", ran(private()), None)],
    "server_tops_up": [
        (ran(shared("top_up")), "trusted to forget it", ran(shared()), None),
        (ran(shared("top_up"), secure_sum="protocol"), "Transcripts name", ran(shared("top_up")), "trusted to forget it."),
    ],
    "lost_in_noise": [(ran(private(), rounds=LOST), "loss in 1 of 2 rounds", ran(private(), rounds=ABORTED), None)],
    "no_clip": [(ran(without()), "not clipped", ran(without(fr.clip(1.0))), None)],
    "who_takes_part": [(ran(private()), "drawn uniformly", ran(turns(4)), "taken in turn")],
    "sampling_is_secret": [
        (ran(COINS), "the seed decides it", ran(private()), None),
        (ran(COINS), "the seed decides it", ran(SILOS), None),
        (ran(private(budget=fr.Budget(8.0, DELTA, population=40))), "nobody observes", ran(turns(4)), None),
    ],
    "turns_are_kept": [(ran(turns(4)), "two of 4 rounds", ran(private()), None), (ran(turns(2)), "two of 2", ran(COINS), None)],
    "who_vanishes": [(ran(private(), dropout=0.1), "with probability 0.1", ran(private()), "Every sampled client reported")],
    "rounds_without_a_sum": [
        (ran(private(), rounds=ABORTED), "1 of 2 rounds", ran(private(), rounds=LOST), None),
        (ran(private(), rounds=ABORTED), "without a sum", ran(without(), rounds=ABORTED), None),
        (ran(private(), rounds=NOBODY), "1 of 2 rounds", ran(COINS, rounds=NOBODY), None),
        (ran(private(), rounds=NOBODY), "too few clients stayed", ran(SILOS, rounds=NOBODY), "sent an update that was finite"),
    ],
    "updates_not_finite": [
        (ran(private(), rounds=[{"nonfinite": 3}]), "3 updates held", ran(private(), rounds=[{"nonfinite": 0}]), None),
        (ran(private(), rounds=[{"nonfinite": 3}]), "counted as zeros", ran(SILOS, rounds=[{"nonfinite": 3}]), "did not count"),
        (ran(private(), rounds=[{"nonfinite": 1}]), "1 update held", ran(without(), rounds=[{"nonfinite": 1}]), None),
    ],
    "training_examples_are_sound": [
        (ran(private(), rows_checked={"training": RowsChecked(5, 9)}), "5 of 9", ran(private(), rows_checked={"training": RowsChecked(9, 9)}), None)
    ],
    "test_examples_are_sound": [
        (ran(private(), rows_checked={"test": RowsChecked(5, 9)}), "5 of 9", ran(private(), rows_checked={"training": RowsChecked(5, 9)}), None)
    ],
    "clients_are_honest": [(ran(private()), "Every client trained", ran(private(), canaries=30, audit=HELD, spent=SPENT), "but the canaries")],
    "what_is_outside": [
        (ran(private(), outside=outside(["states"])), "own states", ran(private(), outside=outside([])), "who took part how often"),
        (ran(private(), outside=outside([]), folder=True), "in its folder", ran(private(), outside=outside([])), "in its record"),
        (ran(private(), outside=outside([])), "Outside", ran(without()), None),
    ],
    "judged_on_clients": [
        (ran(private(), tested=True), "no noise", ran(private()), None),
        (ran(private(), tested=True, stops=True), "when the run ended", ran(private(), tested=True), "made on."),
        (ran(private(), tested=True), "no noise", ran(without(), tested=True), None),
    ],
    "states_of_clients": [
        (ran(private(), states="kept"), "without noise", ran(private(), states="deleted"), "were deleted"),
        (ran(private(), states="kept"), "give examples away", ran(private()), None),
        (ran(private(), states="deleted"), "give examples away", ran(SILOS, states="deleted"), "no more of an example than what was counted"),
    ],
    "canaries_took_part": [
        (ran(private(), canaries=30), "30 of the clients", ran(private()), None),
        (ran(private(), canaries=30, audit=HELD), "proves nothing", ran(private(), canaries=30, audit=REFUTED), "judging the plan."),
    ],
}  # fmt: skip


def test_every_sentence_has_such_a_pair() -> None:
    """And there is none that the list of sentences leaves out."""
    assert [says.__name__ for says in SENTENCES] == list(dict.fromkeys(says.__name__ for says in SENTENCES))
    assert {says.__name__ for says in SENTENCES} == set(CASES)
    annotated = {
        name
        for name, value in vars(module).items()
        if "Sentence" in str(getattr(value, "__annotations__", {}).get("return"))
    }
    assert {name for name in annotated if not name.startswith("_")} == set(CASES)


@pytest.mark.parametrize("says", SENTENCES, ids=lambda says: says.__name__)
def test_a_sentence_is_said_when_it_holds_and_only_then(says: Callable) -> None:
    for holds, words, fails, instead in CASES[says.__name__]:
        said = says(holds)
        assert words in said.text
        assert said.kind in ("assumed", "private", "not_private")
        assert said._asdict() in statement(holds)
        other = says(fails)
        assert (other is None) == (instead is None)
        assert (said.title, said.text) not in [(one["title"], one["text"]) for one in statement(fails)]
        if instead is not None:
            assert instead in other.text
            assert words not in other.text


def test_titles_tell_sentences_apart() -> None:
    for given in (
        ran(private(24), secure_sum="protocol"),
        ran(without()),
        ran(shared("top_up"), states="kept"),
    ):
        titles = [one["title"] for one in statement(given)]
        assert len(titles) == len(set(titles))


def test_the_line_with_epsilon_says_all_it_rests_on_or_that_nothing_is_promised() -> None:
    assert guarantee(ran(without())) is None
    assert "not yet known" in str(guarantee(ran(private())))
    line = str(guarantee(ran(private(), spent=SPENT)))
    for words in (
        "epsilon 3.25 at delta 1e-05",
        "one device",
        "zero-out",
        "in every round",
        "exact Gaussian",
    ):
        assert words in line
    for given in (
        ran(private(), spent=SPENT, entropy_given=True),
        ran(private(), spent=SPENT, audit=REFUTED),
    ):
        assert str(guarantee(given)).startswith("Nothing is promised: ")
        assert not [
            one for one in statement(given) if one["title"] == "Differential privacy for every device"
        ]


def test_two_epsilons_are_explained_where_they_differ() -> None:
    said = str(two_epsilons(7.904, 7.731))
    assert "7.73, is what that run spent; the run itself spent 7.9." in said
    assert two_epsilons(7.9, 7.9) is None
    assert two_epsilons(None, 7.9) is None


# -- of real runs -----------------------------------------------------------------------------------------------


def titles(made: fr.Run) -> set[str]:
    return {one["title"] for one in made.header["assumptions"]}


def test_runs_say_what_was_run(private_runs: dict[str, Kept]) -> None:
    """Of every kind of run, that the sentences which tell it from the others are there, and from what was run."""
    expected = {
        "Nothing is promised": {"dropouts"},
        "Differential privacy for every device": set(private_runs) - {"dropouts", "silos"},
        "Differential privacy for every example": {"silos"},
        "The server sees only sums": {"dropouts"},
        "The secure sum is simulated in its ideal form": {"audited"},
        "The server adds the noise": set(private_runs) - {"dropouts", "silos"},
        "Each client adds the noise itself": {"silos"},
        "The clients add the noise": {"dropouts"},
        "Who drops out": {"dropouts"},
        "Who took part is a secret": {"sampled"},
        "Clients keep to their turn": {"states", "kept", "spent", "stopped"},
        "The clients' own states are kept": {"kept", "stopped"},
        "The clients' own states were on this disk": {"states", "spent"},
        "The clients' own states are made of noisy steps": {"silos"},
        "Evaluations on held-out data are not covered": {"audited", "stopped"},
        "Canaries took the places of clients": {"audited"},
        "What was counted": set(private_runs),
        "This was written before the first round": set(),
    }
    for title, names in expected.items():
        assert {name for name, made in private_runs.items() if title in titles(made.run)} == names, title
    for name, made in private_runs.items():
        promise = made.run.header["privacy"]
        spent = sum(r.digest is not None for r in ledger(made.folder).reservations.values())
        text = next(
            one["text"] for one in made.run.header["assumptions"] if one["title"] == "What was counted"
        )
        assert text.startswith(f"{spent:,} release"), name
        assert f"epsilon {at_most(promise['spent'])} at" in promise["statement"]
        assert promise["statement"].startswith("Nothing") == (name == "dropouts")
    audit = private_runs["audited"].run.header["audit"]
    assert audit["claimed"] == private_runs["audited"].run.header["privacy"]["spent"]


def test_known_noise_stays_known_when_the_run_is_resumed(tmp_path) -> None:
    with compiled_once():
        run(SAMPLED, 1, PEOPLE, run=tmp_path / "run")  # with bytes that the test knows
        resumed = run(SAMPLED, 2, PEOPLE, run=tmp_path / "run", resume=True, entropy=None)
        assert resumed.header["entropy"] == "given"
        assert "Nothing is promised" in titles(resumed)
        fresh = run(SAMPLED, 1, PEOPLE, run=tmp_path / "fresh", entropy=None)
        assert (fresh.header["entropy"], fresh.header["privacy"]["why_nothing"]) == ("system", None)


def test_evaluations_of_an_earlier_part_are_told_when_the_run_is_resumed_without(tmp_path) -> None:
    title, seen = "Evaluations on held-out data are not covered", []
    with compiled_once():
        run(SAMPLED, 1, PEOPLE, run=tmp_path / "run", test=OTHERS, evaluate_every=1, entropy=None)

        def look(record: dict[str, Any]) -> None:
            header = json.loads((tmp_path / "run" / "run.json").read_text())
            seen.append(title in {one["title"] for one in header["assumptions"]})

        resumed = run(
            SAMPLED, 3, PEOPLE, run=tmp_path / "run", resume=True, entropy=None, on_round=look
        )  # fmt: skip
    assert title in titles(resumed)
    assert any("held-out" in one["what"] for one in resumed.header["outside"])
    assert seen == [True, True]


def test_a_plan_without_a_budget_says_nothing_of_one() -> None:
    said = statement(replace(ran(without()), clients=10))
    assert not [one for one in said if "epsilon" in one["text"] or "promise" in one["text"]]
