"""A program is compiled once and runs on every processor independently."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairyring.core.cores import core_processors
from fairyring.core.program import Program, replicate, transfer
from tests.processes.fairyring_test_programs import kept_in

pytestmark = pytest.mark.optimised


def test_compiled_once_and_the_same_on_every_device(no_cache):
    processors = core_processors(3)
    table = np.arange(100, dtype=np.float32)  # a constant within the program

    def ranked(x):
        return jnp.sort(jnp.sin(x) * table)

    program = Program(ranked, processors)
    x = np.random.default_rng(0).normal(size=100).astype(np.float32)
    results = [program(place, x) for place in (2, 0, 1)]
    assert program.compilations == 1
    assert [r.device for r in results] == [processors[2], processors[0], processors[1]]
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    np.testing.assert_allclose(results[0], np.sort(np.sin(x) * table), rtol=1e-5)


def test_what_was_begun_is_waited_for_and_compiled_once(no_cache):
    def ranked(x):
        return jnp.sort(x * 2)

    program = Program(ranked, core_processors(2))
    program.begin(jax.ShapeDtypeStruct((5,), np.float32))
    for place in range(2):
        np.testing.assert_array_equal(program(place, np.arange(5, dtype=np.float32)), 2.0 * np.arange(5))
    assert program.compilations == 1


def test_what_fails_while_it_is_begun_fails_when_it_is_asked_for(no_cache):
    program = Program(lambda x: x + 1, core_processors(1), options={"xla_no_such_option": 1})
    program.begin(np.float32(1))
    with pytest.raises(Exception, match="no_such_option"):
        program(0, np.float32(1))


def test_memory_may_be_given_away(no_cache):
    processors = core_processors(2)
    program = Program(lambda total, x: total + x, processors, donate=(0,))
    for place, device in enumerate(processors):
        total = jax.device_put(np.full(1000, 3, np.float32), device)
        after = program(place, total, np.float32(place))
        assert total.is_deleted()
        np.testing.assert_array_equal(after, np.full(1000, 3 + place, np.float32))


def test_a_program_that_calls_back_into_python_is_compiled_for_each_device(no_cache):
    seen = []

    def told(x):
        jax.debug.callback(lambda value: seen.append(float(value)), x)
        return x + 1

    program = Program(told, core_processors(2))
    assert [float(program(place, np.float32(place))) for place in range(2)] == [1, 2]
    jax.effects_barrier()
    assert sorted(seen) == [0, 1]
    assert program.compilations == 2


def test_with_jaxs_own_cache_of_programs(tmp_path):
    with kept_in(str(tmp_path)):
        lying = [np.ones(4, np.float32), replicate(np.ones(4, np.float32), core_processors(2))[1]]
        for _ in range(2):  # once into the cache, and once from it
            program = Program(lambda x: jnp.cumsum(x * 3), core_processors(2))
            for place in range(2):
                np.testing.assert_array_equal(program(place, lying[place]), [3, 6, 9, 12])
        assert len(list(tmp_path.glob("jit__lambda*-cache"))) == 1  # wherever its arguments are


def test_cores_read_one_memory_and_changes_to_one_copy_stay_there():
    processors = core_processors(2)
    x = np.arange(6, dtype=np.float32)
    for copy, device in zip(replicate(x, processors), processors, strict=True):
        assert copy.device == device
        np.testing.assert_array_equal(copy, x)
    doubled = Program(lambda x: x * 2, processors)
    first = doubled(0, x)
    given = transfer(first, processors[1])
    assert np.shares_memory(given, np.asarray(first))
    np.testing.assert_array_equal(doubled(1, given), x * 4)
    np.testing.assert_array_equal(first, x * 2)
