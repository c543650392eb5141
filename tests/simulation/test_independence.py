"""The result depends on plan, data and seed alone."""

import msgspec
import numpy as np
import optax
import pytest

import fairyring as fr
import fairyring.simulation.feed as feeding
from tests.learning.linear import people, task

SIZES = [7, 12, 0, 4, 9, 31, 2, 5, 8, 8, 3]
INTEGER = fr.chain(fr.clip(0.5), fr.quantize(bits=12), fr.secure_sum())
REAL = fr.chain(fr.weight_by_examples())


PLANS = {}


def plan_of(aggregation, cohort, algorithm):
    """One plan for all runs that differ in what is beside it: what was traced of it is kept with it."""
    key = id(aggregation), cohort if isinstance(cohort, int) else id(cohort), id(algorithm)
    if key not in PLANS:
        plan = fr.Plan(
            task(),
            local=fr.LocalTraining(optax.sgd(0.3), epochs=2, batch_size=4),
            aggregation=aggregation,
            cohort=cohort,
            **({"algorithm": algorithm} if algorithm else {}),
        )
        PLANS[key] = plan, aggregation, cohort, algorithm  # all alive, so that no other has their places
    return PLANS[key][0]


def trained(aggregation, *, cohort=6, population=None, algorithm=None, rounds=7, **options):
    plan = plan_of(aggregation, cohort, algorithm)
    run = fr.simulate(plan, population or people(SIZES), rounds=rounds, seed=5, **options)
    return np.concatenate([np.ravel(leaf) for leaf in (run.params["w"], run.params["b"])]), run


MADE = {}


def usual(aggregation):
    """What `trained` makes of an aggregation and of nothing else that is said: made once, for all tests to compare with."""
    if id(aggregation) not in MADE:
        MADE[id(aggregation)] = trained(aggregation)
    return MADE[id(aggregation)]


def test_same_seed_same_bits_other_seed_others():
    first, again = usual(REAL)[0], trained(REAL)[0]
    np.testing.assert_array_equal(first, again)
    plan_seed_changed, _ = trained(REAL, dropout=0.4)
    assert np.abs(first - plan_seed_changed).max() > 1e-4


@pytest.mark.parametrize("aggregation", [INTEGER, REAL], ids=["integer", "real"])
def test_the_number_of_devices_does_not_matter(aggregation):
    one, _ = trained(aggregation, processors=1)
    two, _ = trained(aggregation, processors=2)
    if aggregation is INTEGER:
        np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("aggregation", [INTEGER, REAL], ids=["integer", "real"])
def test_fetching_rows_piece_by_piece_does_not_matter(aggregation, monkeypatch):
    held, _ = usual(aggregation)
    monkeypatch.setattr(feeding, "RESIDENT_BYTES", 0)
    whole, _ = trained(aggregation)
    monkeypatch.setattr(feeding, "PIECE_BYTES", 31 * 24)  # the largest client alone
    pieces, _ = trained(aggregation)
    for other in (whole, pieces):
        if aggregation is INTEGER:
            np.testing.assert_array_equal(held, other)
        np.testing.assert_allclose(held, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("aggregation", [INTEGER, REAL], ids=["integer", "real"])
def test_cohort_order_does_not_matter(aggregation):
    cohorts = [[0, 1, 3, 4, 5], [9, 8, 7, 5], [10, 1, 6]]
    backwards = [members[::-1] for members in cohorts]
    there, _ = trained(aggregation, cohort=fr.cohort.fixed(cohorts))
    back, _ = trained(aggregation, cohort=fr.cohort.fixed(backwards))
    if aggregation is INTEGER:
        np.testing.assert_array_equal(there, back)
    np.testing.assert_allclose(there, back, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("clients_per_batch", [2, 5])
def test_vectorising_over_clients_does_not_matter(clients_per_batch):
    looped, _ = usual(REAL)
    block, run = trained(REAL, clients_per_batch=clients_per_batch)
    np.testing.assert_allclose(looped, block, rtol=2e-5, atol=1e-6)
    assert all(record.clients == 6 for record in run.records)


def test_vectorising_over_clients_that_remember():
    looped, first = trained(fr.chain(), algorithm=fr.scaffold())
    block, second = trained(fr.chain(), algorithm=fr.scaffold(), clients_per_batch=3)
    np.testing.assert_allclose(looped, block, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(first.participation, second.participation)


def test_a_longer_run_begins_with_the_shorter_one():
    _, short = usual(REAL)
    _, long = trained(REAL, rounds=9)
    assert len(short.records) < len(long.records)
    for a, b in zip(short.records, long.records, strict=False):
        assert msgspec.structs.replace(a, seconds=0.0) == msgspec.structs.replace(b, seconds=0.0)


def test_one_program_for_clients_of_all_sizes(monkeypatch, no_cache):
    """Sizes from 1 to 300, Poisson cohorts of changing size: the engine compiles each of its programs once."""
    from fairyring.simulation import assembly

    made: dict[str, list] = {"Engine": [], "ServerProgram": []}
    for name, found in made.items():
        kind = getattr(assembly, name)
        monkeypatch.setattr(
            assembly, name, lambda *given, kind=kind, found=found: found.append(kind(*given)) or found[-1]
        )
    rng = np.random.default_rng(0)
    population = people(rng.integers(1, 300, size=60).tolist())
    for limit in (1 << 30, 0):
        monkeypatch.setattr(feeding, "RESIDENT_BYTES", limit)
        trained(
            REAL, cohort=fr.cohort.poisson(0.2, maximum=40), population=population, rounds=30, processors=2
        )
    assert len(made["Engine"]) == len(made["ServerProgram"]) == 2
    for engine, server in zip(*made.values(), strict=True):
        assert engine.accumulate.compilations == 1
        assert [one.compilations for one in server.compiled.values()] == [1]


def test_where_rows_lie_does_not_matter(tmp_path):
    """In memory, in a memory-mapped file, or made by a function client by client."""
    stored = people(SIZES)
    expected, _ = usual(INTEGER)
    stored.save(tmp_path / "people")
    mapped, _ = trained(INTEGER, population=fr.Population.open(tmp_path / "people"))
    lazy = fr.Population.from_function(
        len(SIZES),
        lambda i: {name: np.array(column) for name, column in stored.client(i).items()},
        sizes=SIZES,
        example={"x": np.zeros(5, np.float32), "y": np.int32(0)},
    )
    made, _ = trained(INTEGER, population=lazy)
    np.testing.assert_array_equal(expected, mapped)
    np.testing.assert_array_equal(expected, made)


def test_work_is_shared_by_examples():
    from fairyring.simulation.engine import assign_to_processors

    sizes = np.array([5, 900, 5, 5, 300, 300, 290, 5])
    parts = assign_to_processors(np.arange(8), sizes, 2)
    assert sorted(np.concatenate(parts).tolist()) == list(range(8))
    assert abs(sizes[parts[0]].sum() - sizes[parts[1]].sum()) <= 20
    alike = assign_to_processors(np.arange(7), np.full(7, 50), 3)
    assert sorted(map(len, alike)) == [2, 2, 3]
    assert [len(part) for part in assign_to_processors(np.arange(1), np.array([4]), 2)] == [1, 0]
