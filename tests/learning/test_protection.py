"""What a plan promises: kept by its parts, or refused when it is made."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.errors import PlanError
from fairyring.learning.algorithm import Combined, Facts, Report
from fairyring.learning.protection import honest_of, minimum_cohort_with
from fairyring.learning.rehearsal import RehearsalClient
from fairyring.learning.server import server_half
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.participation import AtMost, FixedSize, PoissonSampled
from tests.learning.linear import task

BUDGET = fr.Budget(8.0, 1e-5, rounds=20)
COUNTED = fr.Budget(math.inf, 1e-5)


def plan(*stages: Any, privacy: fr.Budget | None = BUDGET, cohort: Any = 12, **more: Any) -> fr.Plan:
    return fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(0.1), batch_size=4),
        cohort=cohort,
        aggregation=fr.chain(fr.clip(1.0), *stages),
        privacy=privacy,
        **more,
    )


def protection(*stages: Any, **options: Any) -> Any:
    found = plan(*stages, **options).protection
    assert found is not None
    return found


# -- calibration ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "cohort", "participation"),
    [
        ((fr.gaussian_noise(),), 12, AtMost()),
        ((fr.gaussian_noise(),), fr.cohort.in_turn(12, separation=6), AtMost(None, 6)),
        ((fr.gaussian_noise(),), fr.cohort.poisson(0.02, maximum=60), PoissonSampled(0.02, 1e-3)),
        ((fr.correlated_noise(),), fr.cohort.in_turn(12, separation=5), AtMost(None, 5)),
        ((fr.distributed_noise(), fr.secure_sum(20)), 12, AtMost()),
        ((fr.rotate(), fr.distributed_noise("discrete_gaussian"), fr.secure_sum(18)), 12, AtMost()),
    ],
    ids=["every round", "in turn", "poisson", "correlated", "skellam", "discrete gaussian"],
)
def test_the_least_noise_that_keeps_the_budget_is_found(stages, cohort, participation):
    found = protection(*stages, cohort=cohort)
    assert found.participation == participation
    accountant = Accountant(participation, BUDGET.delta)
    spent = accountant.spent({found.release: 20}).epsilon
    assert 0.995 * 8.0 < spent <= 8.0 * (1 + 1e-6)
    assert accountant.spent({found.release: 21}).epsilon >= spent


def test_sampling_from_a_known_population_is_claimed_only_when_asked_for():
    budget = fr.Budget(8.0, 1e-5, rounds=20, population=1000)
    sampled, plain = protection(fr.gaussian_noise(), privacy=budget), protection(fr.gaussian_noise())
    assert sampled.participation == FixedSize(12, 1000)
    assert sampled.release.multiplier < 0.6 * plain.release.multiplier


def test_the_noise_is_in_the_plan_and_its_record_and_changes_its_digest():
    first, second = plan(fr.gaussian_noise()), plan(fr.gaussian_noise(), privacy=fr.Budget(4.0, 1e-5, 20))
    noise = first.bound.spec.noise
    assert noise is not None
    assert first.protection is not None
    assert noise.multiplier == first.protection.release.multiplier
    told = first.describe()["protection"]
    assert (told["epsilon"], told["delta"], told["unit"]) == (8.0, 1e-5, "device")
    assert told["multiplier"] == noise.multiplier
    assert "every round" in told["sampling"]
    assert "zero-out" in told["relation"]
    assert first.digest() != second.digest()


def test_explicit_noise_is_not_changed_by_the_budget():
    for budget in (BUDGET, COUNTED, fr.Budget(0.1, 1e-5)):
        assert protection(fr.gaussian_noise(1.7), privacy=budget).release.multiplier == 1.7


def test_a_budget_that_only_counts_is_told_as_having_no_limit():
    assert protection(fr.gaussian_noise(1.0), privacy=COUNTED).describe()["epsilon"] is None


def test_side_values_lengthen_what_one_client_sends_by_their_share():
    assert protection(fr.gaussian_noise()).inflation == pytest.approx(1 / math.sqrt(0.95), rel=1e-2)
    half = protection(fr.gaussian_noise(auxiliary_share=0.5))
    assert half.inflation == pytest.approx(math.sqrt(2), rel=1e-2)


def test_bands_are_chosen_for_the_rounds():
    turns = fr.cohort.in_turn(12, separation=5)
    chosen = protection(fr.correlated_noise(), cohort=turns).release
    assert chosen.bands > 1
    given = protection(fr.correlated_noise(bands=chosen.bands + 3), cohort=turns).release
    assert given.bands == chosen.bands + 3
    assert given.multiplier > chosen.multiplier


# -- shares of honest clients ---------------------------------------------------------------------------------


def test_honest_clients_are_counted_with_as_many_adversaries_as_there_may_be():
    assert [honest_of(n, n, 0.1) for n in (9, 10, 19, 20)] == [9, 9, 18, 18]
    assert honest_of(100, 100, 0.29) == 71  # though 0.29 * 100 is 28.999999999999996
    # The adversaries are a share of the session, and all of them may be among those that stay.
    assert [honest_of(n, 60, 0.1) for n in (60, 30, 6, 3)] == [54, 24, 0, 0]
    for rate in (0.0, 0.1, 0.3):
        for shares in range(1, 20):
            minimum_cohort = minimum_cohort_with(shares, rate, 40)
            assert honest_of(minimum_cohort, 40, rate) >= shares
            assert minimum_cohort == shares or honest_of(minimum_cohort - 1, 40, rate) < shares
    assert minimum_cohort_with(39, 0.1, 40) == 41


def test_a_sum_of_fewer_than_the_shares_need_is_never_released():
    made = plan(fr.distributed_noise(multiplier=1.0, shares=10), fr.secure_sum(20), privacy=COUNTED)
    assert made.minimum_cohort == 11  # of eleven, ten are honest
    assert made.terms is not None
    assert made.terms.minimum_cohort == 11
    topped = fr.distributed_noise(multiplier=1.0, shares=10, shortfall="top_up")
    assert plan(topped, fr.secure_sum(20), privacy=COUNTED).minimum_cohort == 6


def test_shares_that_count():
    found = protection(fr.distributed_noise(multiplier=1.0, shares=9), fr.secure_sum(20), privacy=COUNTED)
    assert [found.shares_of(n, 12) for n in (5, 10, 12)] == [4, 9, 11]
    assert [found.shares_of(n, n) for n in (5, 10, 12)] == [5, 9, 11]


@pytest.mark.parametrize(
    ("secure", "honest", "was"), [({}, 24, 27), ({"adversarial_rate": 0.3, "minimum_cohort": 30}, 12, 21)]
)
def test_noise_is_calibrated_for_adversaries_that_all_stay(secure, honest, was):
    """Of 60 clients, half of which may vanish: the shares of the honest among the other half make the promise."""
    budget = fr.Budget(8.0, 1e-5, rounds=20)
    found = protection(fr.distributed_noise(), fr.secure_sum(24, **secure), cohort=60, privacy=budget).release
    assert found.shares == honest
    accountant = Accountant(AtMost(), 1e-5)
    # So few shares keep the promise; noise made for what was counted before does not.
    assert accountant.spent({found: 20}).epsilon == pytest.approx(8.0, rel=5e-3)
    less = msgspec.structs.replace(found, sigma=found.sigma * (honest / was) ** 0.5)
    assert accountant.spent({less: 20}).epsilon > (8.5 if honest == 24 else 11.0)


def test_sums_with_fewer_than_two_honest_clients_are_refused():
    with pytest.raises(PlanError, match=r"2 of a session's 4 adversaries.*minimum_cohort=4"):
        plan(
            fr.gaussian_noise(1.0),
            fr.secure_sum(20, adversarial_rate=0.5, dropout_rate=0.0, minimum_cohort=3),
            privacy=COUNTED,
            cohort=4,
        )
    # Without a minimum there are enough.
    made = plan(fr.gaussian_noise(1.0), fr.secure_sum(20, adversarial_rate=0.4), privacy=COUNTED, cohort=10)
    assert made.minimum_cohort - 4 >= 2


def test_shares_do_not_go_with_secret_sampling():
    with pytest.raises(PlanError, match="which tells how many did"):
        protection(
            fr.distributed_noise(multiplier=1.0, shares=9),
            fr.secure_sum(20),
            privacy=COUNTED,
            cohort=fr.cohort.poisson(0.1, maximum=40),
        )


def test_the_number_of_clients_is_hidden_where_sampling_is_secret():
    for cohort, clear in ((12, 1), (fr.cohort.poisson(0.1, maximum=40), 0)):
        spec = plan(fr.gaussian_noise(1.0), privacy=COUNTED, cohort=cohort).bound.spec
        assert spec.noise is not None
        assert spec.dimension - spec.noise.coordinates == clear


# -- what is refused ------------------------------------------------------------------------------------------

SECURE = fr.secure_sum(20)


@pytest.mark.parametrize(
    ("stages", "options", "message"),
    [
        ((), {}, r"a budget, and no noise.*Add gaussian_noise\(\) after the clip"),
        (
            (fr.gaussian_noise(1.0),),
            {"privacy": None},
            "gaussian noise, and no budget.*math.inf to only count",
        ),
        (
            (fr.distributed_noise(multiplier=1.0),),
            {},
            r"added in the clear.*End the chain with secure_sum\(\)",
        ),
        ((fr.gaussian_noise(),), {"privacy": COUNTED}, "budget without rounds.*rounds=100"),
        ((fr.gaussian_noise(),), {"privacy": fr.Budget(math.inf, 1e-5, 20)}, "budget without limit"),
        ((fr.gaussian_noise(),), {"privacy": fr.Budget(8.0, 1e-5)}, "without rounds.*a multiplier"),
        (
            (fr.distributed_noise(shares=12), SECURE),
            {},
            "at most 12, of which 10% may be adversaries.*12 are honest.*top_up",
        ),
        (
            (fr.correlated_noise(),),
            {"cohort": fr.cohort.poisson(0.1, maximum=50)},
            "cohort without separation.*in_turn",
        ),
        (
            (fr.correlated_noise(1.0),),
            {"privacy": COUNTED, "cohort": fr.cohort.in_turn(5, separation=3)},
            "budget without rounds.*Give bands=",
        ),
        (
            (fr.gaussian_noise(),),
            {"privacy": fr.Budget(8.0, 1e-5, 20, 100), "cohort": fr.cohort.in_turn(5, separation=3)},
            "a cohort that is inturn.*Leave population out",
        ),
        (
            (fr.gaussian_noise(),),
            {"privacy": fr.Budget(8.0, 1e-5, 20, 100), "cohort": fr.cohort.poisson(0.1, maximum=50)},
            "a cohort that is poisson",
        ),
        ((fr.gaussian_noise(),), {"privacy": fr.Budget(8.0, 1e-5, 20, 11)}, "11 for a cohort of 12"),
        (
            (fr.gaussian_noise(1.0), fr.secure_sum(16)),
            {"cohort": 20_000},
            "larger modulus_bits in secure_sum, a smaller cohort",
        ),
        (
            (fr.gaussian_noise(3000.0), fr.secure_sum(16)),
            {},
            "noise 3000 times as large as one of them.*larger modulus_bits",
        ),
        ((fr.weight_by_examples(), fr.gaussian_noise(1.0)), {}, "weight_by_examples a bound"),
        ((fr.gaussian_noise(1.0), fr.clip(1.0)), {}, "before the noise"),
        ((fr.gaussian_noise(1.0),), {"privacy": 8.0}, r"a budget, such as fr.Budget\(epsilon=8.0"),
    ],
)
def test_parts_that_do_not_add_up_to_the_promise(stages, options, message):
    with pytest.raises(PlanError, match=message):
        plan(*stages, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fr.gaussian_noise(0.0), "finite number above 0"),
        (lambda: fr.gaussian_noise(-1.0), "finite number above 0"),
        (lambda: fr.gaussian_noise(math.inf), "finite number above 0"),
        (lambda: fr.gaussian_noise(True), "finite number above 0"),
        (
            lambda: fr.gaussian_noise(1.0, auxiliary_share=0.0),
            "auxiliary_share.*between 0 and 1.*Leave it out",
        ),
        (lambda: fr.gaussian_noise(1.0, auxiliary_share=1.0), "auxiliary_share.*between 0 and 1"),
        (lambda: fr.correlated_noise(1.0, bands=0), "bands.*whole number >= 1"),
        (lambda: fr.distributed_noise("laplace"), "mechanism: given 'laplace'; expected 'skellam' or"),
        (lambda: fr.distributed_noise(shares=0), "shares.*whole number >= 1"),
        (lambda: fr.distributed_noise(shortfall="ignore"), "shortfall.*'abort' or 'top_up'"),
        (
            lambda: fr.chain(fr.clip(1.0), fr.gaussian_noise(1.0), fr.correlated_noise(1.0)),
            r"gaussian_noise\(multiplier=1.0\) and correlated_noise.*Remove one",
        ),
    ],
)
def test_noise_stages_that_make_no_sense(make, message):
    with pytest.raises(PlanError, match=message):
        make()


def test_noise_without_a_clip():
    with pytest.raises(PlanError, match=r"updates of any length.*Put clip\(norm\) before the noise"):
        dataclasses.replace(plan(fr.gaussian_noise(1.0)), aggregation=fr.chain(fr.gaussian_noise(1.0)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epsilon": 0.0}, "epsilon: given 0.0; expected a number above 0; inf to only record"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"epsilon": "8"}, "epsilon: given '8'"),
        ({"epsilon": True}, "epsilon"),
        ({"delta": 0.0}, "delta: given 0.0; expected a number above 0 and below 1"),
        ({"delta": 1.0}, "delta"),
        ({"delta": math.nan}, "delta"),
        ({"rounds": 0}, "rounds: given 0; expected a whole number >= 1"),
        ({"rounds": 2.5}, "rounds"),
        ({"rounds": True}, "rounds"),
        ({"population": 0}, "population"),
    ],
)
def test_budgets_that_promise_nothing(values, message):
    with pytest.raises(PlanError, match=f"Budget {message}"):
        fr.Budget(**({"epsilon": 8.0, "delta": 1e-5} | values))


def test_rules_that_make_no_sense():
    for size, separation in ((0, 3), (3, 0), (2.0, 3), (3, True)):
        with pytest.raises(PlanError, match="whole number >= 1"):
            fr.cohort.in_turn(size, separation=separation)  # type: ignore[arg-type]


# -- a clip norm that adapts ----------------------------------------------------------------------------------


def adapting(initial: float, **options: Any) -> fr.Plan:
    algorithm = fr.adaptive_clip(initial, **options)
    return plan(fr.gaussian_noise(1.0), privacy=COUNTED, algorithm=algorithm)


def test_a_clip_norm_that_adapts_needs_updates_in_its_own_units():
    with pytest.raises(PlanError, match=r"clip\(1.0\) among them"):
        dataclasses.replace(
            adapting(0.5), aggregation=fr.chain(fr.clip(0.5), fr.weight_uniformly(), fr.gaussian_noise(1.0))
        )
    wrong: list[dict[str, Any]] = [{"initial": 0.0}, {"initial": math.inf}, {"quantile": 1.0}, {"rate": -1.0}]
    for bad in wrong:
        settings: dict[str, Any] = {"initial": 0.1} | bad
        with pytest.raises(PlanError, match=f"adaptive_clip {next(iter(bad))}"):
            fr.adaptive_clip(**settings)


def test_whether_an_update_is_short_travels_as_one_more_noisy_value():
    without = plan(fr.gaussian_noise(1.0), privacy=COUNTED)
    made = adapting(0.5)
    assert [auxiliary.name for auxiliary in made.auxiliaries] == [
        *(s.name for s in without.auxiliaries),
        "within_clip",
    ]
    assert made.bound.spec.noise is not None
    assert without.bound.spec.noise is not None
    assert made.bound.spec.noise.coordinates > without.bound.spec.noise.coordinates


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0, 1.7, -0.4])
def test_the_clip_norm_moves_as_in_the_paper(share):
    algorithm = fr.adaptive_clip(2.0, quantile=0.5, rate=0.2)
    state = algorithm.server_state({"w": jnp.zeros(3)})
    combined = Combined({"w": jnp.ones(3)}, (jnp.float32(share),))
    _, after = algorithm.server(combined, state, Facts(jnp.float32(0.1)))
    # Andrew et al. 2021, Algorithm 1; what noise adds beyond a share is cut off.
    assert float(after[0]) == pytest.approx(2.0 * math.exp(-0.2 * (min(max(share, 0.0), 1.0) - 0.5)))


def test_an_update_is_sent_in_units_of_the_norm_and_comes_back_in_its_own():
    algorithm = fr.adaptive_clip(0.25)
    received = {"w": jnp.zeros(2)}
    state = algorithm.server_state(received)

    def report_of(*delta: float) -> Report:
        client = RehearsalClient(optax.sgd(1.0), [{"w": -jnp.array(delta)}])
        return algorithm.device(client, received, state, ())

    report = report_of(0.3, -0.4)
    np.testing.assert_allclose(report.update["w"], [1.2, -1.6], rtol=1e-6)
    assert [float(value) for value in report.auxiliary] == [0.0]  # 0.5 is longer than 0.25
    mean, _ = algorithm.server(Combined(report.update, report.auxiliary), state, Facts(jnp.float32(0.1)))
    np.testing.assert_allclose(jax.tree.leaves(mean)[0], [0.3, -0.4], rtol=1e-6)
    assert [float(value) for value in report_of(0.15, 0.2).auxiliary] == [1.0]


def test_a_secret_count_is_kept_from_the_algorithm():
    told = {}
    for rule in (fr.cohort.poisson(0.25, maximum=40), 12):
        made = plan(fr.gaussian_noise(1.0), privacy=COUNTED, cohort=rule, algorithm=fr.scaffold())
        assert made.secret_rate == (None if rule == 12 else 0.25)
        noted = []
        algorithm = made.algorithm._replace(
            server=lambda combined, state, facts, noted=noted: (
                noted.append(facts.fraction) or (combined.update["model"], state)
            )
        )
        advance = server_half(made.server, algorithm, made.bound, made.update_layout, 100, made.secret_rate)
        state = made.first_state(jax.random.key(0))
        total = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), made.message_shape)
        advance(state, total, jnp.int32(7), jax.random.key(1))
        told[type(rule).__name__] = float(noted[0])
    assert told == {"Poisson": 0.25, "int": pytest.approx(0.07)}
