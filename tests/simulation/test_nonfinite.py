"""A client whose update is not finite: under noise and masks nothing that is released tells who, or that there was one."""

import jax
import numpy as np
import pytest

import fairyring as fr
from fairyring.records.states import ClientStates
from tests.simulation import private_runs
from tests.simulation.private_runs import Releases, people, run

BAD = 2
EVERYBODY = fr.cohort.fixed([[0, 1, 2, 3, 4]])
OTHERS = fr.cohort.fixed([[0, 1, 3, 4], [0, 1, 2, 3, 4]])  # the same most, so the same grid


@pytest.fixture(scope="module", autouse=True)
def once():
    with private_runs.compiled_once():
        yield


def poisoned(*clients: int) -> fr.Population:
    """People of whom some have features that are finite, but overflow the model."""
    good = people(5)
    x = np.array(good.columns["x"])
    owner = np.repeat(np.arange(len(good)), good.sizes)
    x[np.isin(owner, clients)] = 3e38
    return fr.Population.from_arrays({"x": x, "y": good.columns["y"]}, client=owner)


def released(given: fr.Plan, population: fr.Population, **options):
    """A run, and what went into and came out of its releases."""
    with pytest.MonkeyPatch.context() as patch:
        seen = Releases(patch)
        return run(given, population=population, **({"rounds": 1} | options)), seen


PLAIN = private_runs.plan(fr.gaussian_noise(1.0), bits=None, cohort=EVERYBODY)


def test_its_zero_vector_is_counted_as_any_other():
    done, found = released(PLAIN, poisoned(BAD))
    _, others = released(private_runs.plan(fr.gaussian_noise(1.0), bits=None, cohort=OTHERS), people(5))
    _, clean = released(PLAIN, people(5))
    noise = PLAIN.bound.spec.noise
    assert found.clients == clean.clients == [5]
    assert found.totals[0][-1] == 5  # the divisor
    np.testing.assert_array_equal(found.totals[0][: noise.dimension], others.totals[0][: noise.dimension])
    assert not np.array_equal(found.totals[0][: noise.dimension], clean.totals[0][: noise.dimension])
    np.testing.assert_array_equal(found.noise(), clean.noise())  # as much noise, and the same
    # Beside it are a loss that was not finite, as bad as can be, and what was.
    record = done.records[0]
    assert (record.clients, record.nonfinite) == (5, 1)
    assert np.isfinite(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(done.params)])).all()


def test_that_nobody_is_finite_ends_no_private_run():
    done, found = released(PLAIN, poisoned(0, 1, 2, 3, 4), rounds=2)
    assert [r.nonfinite for r in done.records] == [5, 5]
    assert found.clients == [5, 5]
    noise = PLAIN.bound.spec.noise
    assert not np.any(found.totals[0][: noise.dimension])
    with pytest.raises(fr.TrainingDiverged):
        fr.simulate(
            fr.Plan(private_runs.task(), PLAIN.local, EVERYBODY),
            poisoned(0, 1, 2, 3, 4),
            rounds=1,
            processors=1,
        )


def test_under_masks_it_sends_zeros_with_its_noise():
    """Of masked sums, weights, an algorithm's own auxiliary values and the clients' shares of noise, all at once."""
    given = private_runs.plan(
        fr.distributed_noise("skellam", 1.0, shares=3),
        fr.weight_by_examples(bound=4),
        fr.clip(1.0),
        cohort=EVERYBODY,
        bits=24,
        secure={"minimum_cohort": 5, "adversarial_rate": 0.0, "dropout_rate": 0.0},
        algorithm=fr.adaptive_clip(0.1),
    )
    wholes = {}
    for mode in ("ideal", "protocol"):
        done, found = released(given, poisoned(BAD), secure_sum=mode)
        assert found.clients == [5]  # of fewer there is no sum
        assert (done.records[0].clients, done.records[0].nonfinite) == (5, 1)
        assert done.records[0].aborted is None
        wholes[mode] = private_runs.signed(found.totals[0], 24)
    noise = given.bound.spec.noise
    added = wholes["protocol"][: noise.coordinates] - wholes["ideal"][: noise.coordinates]
    assert private_runs.is_of_variance(added, noise.sigma**2 * 5 / noise.shares)  # five shares


def test_the_mean_of_a_secure_sum_leaves_it_out_and_the_server_does_not_see_it():
    given = fr.Plan(
        private_runs.task(),
        PLAIN.local,
        EVERYBODY,
        fr.chain(fr.clip(0.5), fr.rotate(), fr.quantize(8), fr.secure_sum(24, minimum_cohort=5)),
    )
    ideal, protocol = (
        fr.simulate(given, poisoned(BAD), rounds=1, processors=1, secure_sum=mode, seed=5)
        for mode in ("ideal", "protocol")
    )
    assert private_runs.same_state(ideal, protocol)
    assert [(r.clients, r.nonfinite) for r in protocol.records] == [(5, 1)]
    others = fr.Plan(given.task, given.local, OTHERS, fr.chain(fr.clip(0.5), fr.rotate(), fr.quantize(8)))
    clear = fr.simulate(others, people(5), rounds=1, processors=1, seed=5)
    for one, other in zip(jax.tree.leaves(ideal.params), jax.tree.leaves(clear.params), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)  # weights travel in 2^22 levels


def test_what_it_remembers_stays_as_it_was():
    given = private_runs.plan(fr.gaussian_noise(1.0), bits=None, algorithm=fr.scaffold(), cohort=EVERYBODY)
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        real = ClientStates.write

        def write(states, clients, trees):
            kept.append(dict(zip(clients.tolist(), trees["w"], strict=False)))
            real(states, clients, trees)

        patch.setattr(ClientStates, "write", write)
        fr.simulate(given, poisoned(BAD), rounds=1, processors=1)
    (states,) = kept
    assert not states[BAD].any()
    assert all(np.isfinite(s).all() and s.any() for client, s in states.items() if client != BAD)
