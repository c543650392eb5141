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
from fairyring.records.round_record import Aborted, LostInNoise
from fairyring.rounds import guarantee_sentences, setting_sentences
from fairyring.rounds.artefacts import outside
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.privacy_statement import SENTENCES, guarantee, statement, two_epsilons
from fairyring.task import RowsChecked
from tests.rounds.round_records import record_of
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


def context(given: fr.Plan, **more: Any) -> PrivacyContext:
    return PrivacyContext(given, **({"clients": 40, "sizes": (3, 4)} | more))


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
COINS = plan(fr.gaussian_noise(2.0), bits=None, budget=LIMIT, cohort=fr.cohort.poisson(0.25, maximum=33))
REFUTED = {"holds": False, "claimed": 3.25}
HELD = {"holds": True, "claimed": 3.25}
SILOS = silos()
NOBODY = [record_of(clients=0), record_of(clients=9)]
LOST = [record_of(1, lost_in_noise=LostInNoise(True, {})), record_of(2)]
ABORTED = [record_of(1, aborted=Aborted("masking", "few")), record_of(2)]

# Of each sentence: a run where it holds, with words of it; and one where it does not, or says something else.
CASES: dict[str, list[tuple[PrivacyContext, str, PrivacyContext, str | None]]] = {
    "examples_stay": [(context(without()), "244 numbers and 3 values", context(without(algorithm=fr.scaffold())), "488 numbers")],
    "updates_are_seen": [(context(private()), "added in the clear", context(private(24)), None)],
    "only_sums_are_seen": [
        (context(private(24), secure_sum="protocol"), "at least 5 devices", context(private(24)), None),
        (context(private(24), secure_sum="protocol"), "modulo 2^24", context(private(26), secure_sum="protocol"), "modulo 2^26"),
    ],
    "one_process": [(context(private(24), secure_sum="protocol"), "in this process", context(private(24)), None)],
    "ideal_sum": [
        (context(private(24)), "modulo 2^24", context(private(24), secure_sum="protocol"), None),
        (context(private(24)), "without the protocol's masks", context(private()), None),
    ],
    "no_guarantee": [(context(without()), "No noise was added", context(private()), None)],
    "guarantee_is_void": [
        (context(private(), entropy_given=True), "given by the caller", context(private()), None),
        (context(private(), spent=SPENT, audit=REFUTED), "audit contradicts", context(private(), spent=SPENT, audit=HELD), None),
    ],
    "no_limit": [(context(private(budget=fr.Budget(float("inf"), DELTA))), "no budget stopped it", context(private()), None)],
    "guarantee_holds": [
        (context(private()), "are (8, 1e-05)-differentially private with respect", context(private(), entropy_given=True), None),
        (context(private(), spent=SPENT), "are (3.25, 1e-05)-", context(private(), spent=SPENT, audit=REFUTED), None),
        (context(private()), "zero-out", context(COINS), "add or remove one device"),
        (context(turns(4)), "once in 4 rounds", context(turns(2)), "once in 2 rounds"),
        (context(private()), "all data of one device", context(private(budget=fr.Budget(float("inf"), DELTA))), None),
        (context(private()), "all data of one device", context(without()), None),
        (context(SILOS), "with respect to one example", context(private()), "with respect to all data of one device"),
        (context(SILOS), "one example replaced by none", context(private()), "one device's data replaced by none"),
    ],
    "whom_it_covers": [
        (context(private()), "40 clients with 3 to 4 examples", context(private(), clients=7, sizes=(2, 2)), "7 clients with 2 examples"),
        (context(private()), "each client", context(without()), None),
        (context(private()), "each client", context(SILOS), None),
    ],
    "delta_is_large": [
        (context(private(budget=fr.Budget(8.0, 0.025))), "0.025 and 40 clients", context(private(budget=fr.Budget(8.0, 0.0249))), None),
        (context(private(), clients=10**5), "well below 1 / 100,000", context(private(), clients=10**5 - 1), None),
        (context(private(), clients=10**5), "delta 1e-05", context(without(), clients=10**5), None),
        (context(SILOS, examples=10**5), "1e-05 and 100,000 examples", context(SILOS, clients=10**5, examples=10**5 - 1), None),
    ],
    "what_was_counted": [
        (context(private(), spent=SPENT), "7 releases of 9 reservations, added up by exact Gaussian. 2 of", context(private()), None),
        (context(private(), spent=SPENT), "2 of them", context(private(), spent=SPENT | {"reservations": 7}), "of 7 reservations"),
    ],
    "not_ended": [(context(private()), "fairyring ledger", context(private(), spent=SPENT), None)],
    "other_runs": [(context(private()), "Another run", context(without()), None)],
    "server_adds_noise": [
        (context(private()), "trusted to forget it", context(shared()), None),
        (context(private()), "trusted to forget it", context(SILOS), None),
        (context(private(24), secure_sum="protocol"), "Transcripts name", context(private(24)), "to itself."),
    ],
    "noise_is_correlated": [(context(CORRELATED), "take back noise", context(private()), None)],
    "clients_add_noise": [
        (context(shared()), "shares of 6 honest clients", context(shared(shares=5)), "shares of 5 honest clients"),
        (context(shared()), "that were asked up to 10% may", context(private()), None),
    ],
    "each_step_is_noisy": [
        (context(SILOS), "counts 3 of them", context(private()), None),
        (context(SILOS), "are mostly noise", context(private()), None),
        (context(silos(steps=5)), "counts 5 of them", context(SILOS), "counts 3 of them"),
    ],
    "who_is_in_a_batch": [
        (context(SILOS), "Coins and noise come from", context(silos(steps=None, rate=None, epochs=1)), None),
        (context(SILOS), "Coins and noise come from", context(COINS), None),
    ],
    "before_training": [(context(SILOS), "means to standardise by", context(private()), None)],
    "server_tops_up": [
        (context(shared("top_up")), "trusted to forget it", context(shared()), None),
        (context(shared("top_up"), secure_sum="protocol"), "Transcripts name", context(shared("top_up")), "trusted to forget it."),
    ],
    "lost_in_noise": [(context(private(), rounds=LOST), "loss in 1 of 2 rounds", context(private(), rounds=ABORTED), None)],
    "no_clip": [(context(without()), "not clipped", context(without(fr.clip(1.0))), None)],
    "who_takes_part": [(context(private()), "drawn uniformly", context(turns(4)), "taken in turn")],
    "sampling_is_secret": [
        (context(COINS), "the seed decides it", context(private()), None),
        (context(COINS), "the seed decides it", context(SILOS), None),
        (context(private(budget=fr.Budget(8.0, DELTA, population=40))), "nobody observes", context(turns(4)), None),
    ],
    "turns_are_kept": [(context(turns(4)), "two of 4 rounds", context(private()), None), (context(turns(2)), "two of 2", context(COINS), None)],
    "who_vanishes": [(context(private(), dropout=0.1), "with probability 0.1", context(private()), "Every sampled client reported")],
    "rounds_without_a_sum": [
        (context(private(), rounds=ABORTED), "1 of 2 rounds", context(private(), rounds=LOST), None),
        (context(private(), rounds=ABORTED), "without a sum", context(without(), rounds=ABORTED), None),
        (context(private(), rounds=NOBODY), "1 of 2 rounds", context(COINS, rounds=NOBODY), None),
        (context(private(), rounds=NOBODY), "too few clients stayed", context(SILOS, rounds=NOBODY), "sent an update that was finite"),
    ],
    "updates_not_finite": [
        (context(private(), rounds=[record_of(nonfinite=3)]), "3 updates held", context(private(), rounds=[record_of(nonfinite=0)]), None),
        (context(private(), rounds=[record_of(nonfinite=3)]), "counted as zeros", context(SILOS, rounds=[record_of(nonfinite=3)]), "did not count"),
        (context(private(), rounds=[record_of(nonfinite=1)]), "1 update held", context(without(), rounds=[record_of(nonfinite=1)]), None),
    ],
    "training_examples_are_sound": [
        (context(private(), rows_checked={"training": RowsChecked(5, 9)}), "5 of 9", context(private(), rows_checked={"training": RowsChecked(9, 9)}), None)
    ],
    "test_examples_are_sound": [
        (context(private(), rows_checked={"test": RowsChecked(5, 9)}), "5 of 9", context(private(), rows_checked={"training": RowsChecked(5, 9)}), None)
    ],
    "clients_are_honest": [(context(private()), "Every client trained", context(private(), canaries=30, audit=HELD, spent=SPENT), "but the canaries")],
    "what_is_outside": [
        (context(private(), outside=outside(["states"])), "own states", context(private(), outside=outside([])), "who took part how often"),
        (context(private(), outside=outside([]), folder=True), "in its folder", context(private(), outside=outside([])), "in its record"),
        (context(private(), outside=outside([])), "Outside", context(without()), None),
    ],
    "judged_on_clients": [
        (context(private(), tested=True), "no noise", context(private()), None),
        (context(private(), tested=True, stops=True), "when the run ended", context(private(), tested=True), "made on."),
        (context(private(), tested=True), "no noise", context(without(), tested=True), None),
        (context(private(), tested=True, keeps_best=True), "which model is kept as the best", context(private(), tested=True), "made on."),
    ],
    "first_model_was_given": [
        (context(private(), init_given=True), "is not counted here", context(private()), None),
        (context(private(), init_given=True), "both count together", context(without(), init_given=True), "the plan's own first model"),
    ],
    "states_of_clients": [
        (context(private(), states="kept"), "without noise", context(private(), states="deleted"), "were deleted"),
        (context(private(), states="kept"), "give examples away", context(private()), None),
        (context(private(), states="deleted"), "give examples away", context(SILOS, states="deleted"), "no more of an example than what was counted"),
    ],
    "canaries_took_part": [
        (context(private(), canaries=30), "30 of the clients", context(private()), None),
        (context(private(), canaries=30, audit=HELD), "proves nothing", context(private(), canaries=30, audit=REFUTED), "judging the plan."),
    ],
}  # fmt: skip


def test_every_sentence_has_such_a_pair() -> None:
    """And there is none that the list of sentences leaves out."""
    assert [says.__name__ for says in SENTENCES] == list(dict.fromkeys(says.__name__ for says in SENTENCES))
    assert {says.__name__ for says in SENTENCES} == set(CASES)
    annotated = {
        name
        for name, value in (vars(guarantee_sentences) | vars(setting_sentences)).items()
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
        context(private(24), secure_sum="protocol"),
        context(without()),
        context(shared("top_up"), states="kept"),
    ):
        titles = [one["title"] for one in statement(given)]
        assert len(titles) == len(set(titles))


def test_the_line_with_epsilon_says_all_it_rests_on_or_that_nothing_is_promised() -> None:
    assert guarantee(context(without())) is None
    assert "not yet known" in str(guarantee(context(private())))
    line = str(guarantee(context(private(), spent=SPENT)))
    for words in (
        "epsilon 3.25 at delta 1e-05",
        "one device",
        "zero-out",
        "in every round",
        "exact Gaussian",
    ):
        assert words in line
    for given in (
        context(private(), spent=SPENT, entropy_given=True),
        context(private(), spent=SPENT, audit=REFUTED),
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
    said = statement(replace(context(without()), clients=10))
    assert not [one for one in said if "epsilon" in one["text"] or "promise" in one["text"]]
