import jax
import numpy as np
import pytest

from fairyring.core.errors import PlanError
from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root, shared


def words(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_addresses_do_not_collide():
    seen = set()
    for seed in range(3):
        for round in range(4):
            key = of_round(root(seed), round)
            for client in range(5):
                seen |= {words(of_client(key, client, purpose)) for purpose in Purpose}
            seen |= {words(shared(key, purpose)) for purpose in Purpose}
    assert len(seen) == 3 * 4 * 6 * len(Purpose)


def test_an_address_is_a_chain_of_fold_ins():
    """Devices compute these values from raw key words, so they must never change."""
    key = jax.random.fold_in(
        jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 7), 11), int(Purpose.SHUFFLE)
    )
    assert words(of_client(of_round(root(3), 7), 11, Purpose.SHUFFLE)) == words(key)
    assert words(shared(of_round(root(3), 7), Purpose.SHARED)) == words(
        jax.random.fold_in(jax.random.fold_in(of_round(root(3), 7), NOBODY), int(Purpose.SHARED))
    )


def test_purposes_never_change():
    assert {p.name: p.value for p in Purpose} == {
        "INIT": 0, "COHORT": 1, "DROPOUT": 2, "SHUFFLE": 3, "MODEL": 4, "ENCODE": 5, "SHARED": 6,
        "DROPOUT_POINT": 7, "CANARY": 8, "TURNS": 9, "CALL": 10,
    }  # fmt: skip


def test_all_bits_of_a_seed_count():
    seeds = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40, 2**63, 2**64 - 1]
    keys = {tuple(jax.random.key_data(root(seed)).tolist()) for seed in seeds}
    assert len(keys) == len(seeds)


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1])
def test_a_small_seed_has_the_key_that_jax_gives_it(seed):
    assert root(seed) == jax.random.key(seed) == root(np.int64(seed))


@pytest.mark.parametrize("seed", [None, 1.5, -1, 2**64, True, "0"])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(
        PlanError, match=r"seed: given .*expected a whole number from 0 to 18446744073709551615"
    ):
        root(seed)
