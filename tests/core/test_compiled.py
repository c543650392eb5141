"""A program is compiled once a process, whoever asks for it, and only then is it shared."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairyring.core import compiled
from fairyring.core.cores import core_processors
from fairyring.core.program import Program, kept, shared_jit
from fairyring.core.program_cache import FOLDER, ProgramCache
from tests.processes.fairyring_test_programs import kept_in

X = np.arange(6, dtype=np.float32)


@pytest.fixture(autouse=True)
def _fresh(no_cache):
    compiled.forget()


def scaled(rate):
    return Program(lambda x: jnp.cumsum(x * rate), core_processors(1))


def test_another_number_compiles_nothing():
    one, other = scaled(0.5), scaled(3.0)
    np.testing.assert_allclose(one(0, X), np.cumsum(X * 0.5))
    np.testing.assert_allclose(other(0, X), np.cumsum(X * 3))
    np.testing.assert_allclose(one(0, X), np.cumsum(X * 0.5))
    assert one._variants.popitem()[1].compiled is other._variants.popitem()[1].compiled


def test_other_shapes_compile_again_and_both_stay():
    program = scaled(2.0)
    for x in (X, X[:3], X, X[:3]):
        np.testing.assert_allclose(program(0, x), np.cumsum(x * 2))
    assert program.compilations == 2


def test_other_settings_of_jax_compile_again():
    program = Program(lambda x: x @ x.T, core_processors(1))
    program(0, X[None])
    with jax.default_matmul_precision("highest"):
        program(0, X[None])
    assert program.compilations == 2


@pytest.mark.parametrize("options", [{}, {"xla_cpu_prefer_vector_width": 256}])
def test_other_options_compile_again(options):
    program = Program(lambda x: jnp.cumsum(x * 0.5), core_processors(1), options=options)
    program(0, X)
    assert program.compilations == 1


def test_other_settings_of_jax_trace_again():
    def draw(key):
        return jax.random.bits(key, (5,))

    program, shared = Program(draw, core_processors(1)), shared_jit(draw)
    key = jax.random.key(0)
    for partitionable in (True, False):
        with jax.threefry_partitionable(partitionable):
            expected = np.asarray(jax.jit(draw)(key))
            np.testing.assert_array_equal(program(0, key), expected)
            np.testing.assert_array_equal(shared(key), expected)


def test_arguments_that_are_not_used_do_not_shift_the_others():
    """Their programs read the same once what is unused is dropped."""
    last = Program(lambda unused, x: x + 1, core_processors(1))
    first = Program(lambda x, unused: x + 1, core_processors(1))
    np.testing.assert_array_equal(last(0, X, X * 7), X * 7 + 1)
    np.testing.assert_array_equal(first(0, X, X * 7), X + 1)


def test_donated_memory_is_part_of_a_program():
    plain = Program(lambda x, y: x + y, core_processors(1))
    donating = Program(lambda x, y: x + y, core_processors(1), donate=(1,))
    given = [jax.device_put(X, core_processors(1)[0]) for _ in range(3)]
    plain(0, given[0], given[1])
    assert not given[1].is_deleted()
    donating(0, given[0], given[2])
    assert given[2].is_deleted()
    np.testing.assert_array_equal(given[0], X)


def test_programs_that_call_python_are_not_shared():
    heard = []

    def calling(name):
        def told(x):
            jax.debug.callback(lambda _: heard.append(name), x)
            return x * 2

        return Program(told, core_processors(1))

    for name in ("one", "other"):
        calling(name)(0, X)
    jax.effects_barrier()
    assert heard == ["one", "other"]


def test_structures_of_arguments_and_results_are_those_of_each_program():
    as_tuple = Program(lambda pair: (pair[0] + pair[1],), core_processors(1))
    as_dict = Program(lambda named: {"sum": named["a"] + named["b"]}, core_processors(1))
    np.testing.assert_array_equal(as_tuple(0, (X, X))[0], 2 * X)
    np.testing.assert_array_equal(as_dict(0, {"a": X, "b": X})["sum"], 2 * X)


def test_a_jitted_function_is_shared_and_can_be_traced():
    def made(scale):
        return shared_jit(lambda key: scale * jax.random.normal(key, (3,)))

    key = jax.random.key(0)
    np.testing.assert_array_equal(made(2.0)(key), jax.jit(lambda k: 2.0 * jax.random.normal(k, (3,)))(key))
    assert made(2.0)(key).tolist() != made(4.0)(key).tolist()
    assert jax.vmap(made(2.0))(jax.random.split(key, 4)).shape == (4, 3)


def test_what_is_kept_with_an_owner_goes_with_it():
    class Owner:
        pass

    owner, made = Owner(), []
    for key in (1, 2, 1):
        kept(owner, key, lambda key=key: made.append(key) or key)
    assert made == [1, 2]
    kept(Owner(), 1, lambda: made.append(3))
    assert made == [1, 2, 3]


def test_only_so_many_programs_are_held(monkeypatch):
    monkeypatch.setattr(compiled, "HELD", 2)
    programs = [Program(lambda x, n=n: x[:n], core_processors(1)) for n in range(1, 5)]
    for n, program in enumerate(programs, 1):
        assert program(0, X).shape == (n,)
    assert len(compiled._held) == 2
    for n, program in enumerate(programs, 1):  # those in use go on
        assert program(0, X).shape == (n,)


def test_an_owner_is_copied_without_its_programs():
    class Owner:
        pass

    owner = Owner()
    kept(owner, 1, lambda: scaled(0.5))
    copied = copy.deepcopy(owner)
    assert kept(copied, 1, lambda: "new") == "new"
    assert isinstance(kept(owner, 1, lambda: "new"), Program)


def test_a_program_from_the_folder_that_cannot_be_loaded_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with kept_in(None):
        compiled.forget()
        first = scaled(0.5)
        expected = first(0, X)
        (kept_file,) = tmp_path.iterdir()
        ProgramCache(tmp_path).write(kept_file.name, b"of another build")
        compiled.forget()
        again = scaled(0.5)
        np.testing.assert_array_equal(again(0, X), expected)
        compiled.forget()
        later = scaled(0.5)  # finds what was compiled in its place
        np.testing.assert_array_equal(later(0, X), expected)
        assert (first.compilations, again.compilations, later.compilations) == (1, 1, 0)
