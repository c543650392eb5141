"""A device's keys are JAX's, its rehearsals draw a simulation's numbers, and its own randomness never repeats."""

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.core import keys
from fairyring.core.noise import Noise
from fairyring.device.randomness import Own, Rehearsed, fold_in, of_seed
from fairyring.messages import Array
from fairyring.privacy.source import NoiseSource
from fairyring.rounds.spending import RoundNoise, RunSpending
from tests.device.plans import ENTROPY, SEED, invitation, published

SECRET = bytes(range(50, 82))
WORDS = st.integers(0, (1 << 32) - 1)


def words(key: jax.Array) -> tuple[int, ...]:
    return tuple(int(word) for word in jax.random.key_data(key))


@given(st.integers(0, (1 << 64) - 1))
@settings(deadline=None, max_examples=60)
@example(0)
@example((1 << 32) - 1)
@example(1 << 32)
@example((1 << 64) - 1)
def test_a_seeds_key_is_that_of_jax(seed):
    assert of_seed(seed) == words(keys.root(seed))


@given(WORDS, WORDS, WORDS)
@settings(deadline=None, max_examples=200)
@example(0, 0, 0)
@example((1 << 32) - 1, (1 << 32) - 1, (1 << 32) - 1)
def test_folding_in_is_that_of_jax(first, second, number):
    key = jax.random.wrap_key_data(np.array([first, second], np.uint32))
    assert fold_in((first, second), number) == words(jax.random.fold_in(key, np.uint32(number)))


def test_a_rehearsal_has_the_keys_and_the_share_of_a_simulation():
    manifest, round, place, number = published("jax").manifest, 3, 2, 11
    invited = invitation(manifest, round, place=place, reservation=number)
    device = Rehearsed(SEED, ENTROPY)
    expected = jax.random.fold_in(keys.of_round(keys.root(SEED), round), place)
    assert tuple(device.client_key(manifest, invited)) == words(expected)
    vector = np.arange(manifest.message.dimension, dtype=np.uint32)
    assert manifest.terms is not None
    # What a simulation adds: see `RoundNoise.share`.
    noise = RoundNoise.__new__(RoundNoise)
    noise.number, noise.spending = number, RunSpending.__new__(RunSpending)
    assert manifest.noise is not None
    noise.spending.noise, noise.spending.source = manifest.noise, NoiseSource(manifest.noise, ENTROPY)
    simulated = noise.share(place, manifest.terms.modulus_bits, vector)
    np.testing.assert_array_equal(device.noisy(manifest, invited, vector), simulated)
    assert not np.array_equal(simulated, vector)
    np.testing.assert_array_equal(vector, np.arange(len(vector)))  # it was not changed


def test_a_rehearsal_draws_a_simulations_steps_and_batches():
    noise = Noise("gaussian", 1.0, 5, 4.0, 9.0, 1.0, 5)
    manifest = published("jax").manifest
    arguments = (*manifest.arguments, Array("noise", (3, 5), "<i4"), Array("batches", (3, 8), "<i4"))
    manifest = type(manifest)(
        **{
            **{name: getattr(manifest, name) for name in manifest.__struct_fields__},
            "arguments": arguments,
            "step_noise": noise,
            "rate": 0.5,
        }
    )
    found = Rehearsed(SEED, ENTROPY).steps(manifest, invitation(manifest, place=2, reservation=9), 6)
    source = NoiseSource(noise, ENTROPY)
    for step in range(3):
        np.testing.assert_array_equal(found["noise"][step], source.of_step(9, 2, step))
        places = source.batch_of(9, 2, step, 6, 0.5)
        np.testing.assert_array_equal(found["batches"][step], [*places, *[-1] * (8 - len(places))])
    own = Own(SECRET).steps(manifest, invitation(manifest), 6)
    assert {name: array.shape for name, array in own.items()} == {"noise": (3, 5), "batches": (3, 8)}
    assert not np.array_equal(own["noise"], found["noise"])


def test_a_device_draws_the_same_for_one_invitation_and_other_numbers_for_any_other():
    manifest = published("jax").manifest
    zeros = np.zeros(manifest.message.dimension, np.uint32)
    ours = Own(SECRET)
    base = {"run": "run", "session": bytes(16), "round": 1, "model": bytes(32), "shared_key": (1, 2)}
    invited = [invitation(manifest, **base)] + [
        invitation(manifest, **(base | change))
        for change in (
            {"run": "other"},
            {"session": b"\1" + bytes(15)},
            {"round": 2},
            {"model": b"\1" + bytes(31)},
            {"manifest": b"\1" + bytes(31)},
            {"shared_key": (1, 3)},
        )
    ]
    shares = {ours.noisy(manifest, one, zeros).tobytes() for one in invited}
    client_keys = {ours.client_key(manifest, one).tobytes() for one in invited}
    assert len(shares) == len(client_keys) == len(invited)
    assert Own(SECRET).noisy(manifest, invited[0], zeros).tobytes() in shares
    # Neither the place nor the reservation, which a service chooses for rehearsals, has any effect.
    other = invitation(manifest, **base, place=77, reservation=78)
    assert ours.noisy(manifest, other, zeros).tobytes() in shares
    assert Own(b"\1" * 32).noisy(manifest, invited[0], zeros).tobytes() not in shares


def test_shares_have_the_variance_that_the_plan_asks_for():
    manifest = published("jax").manifest
    noise, ours = manifest.noise, Own(SECRET)
    assert noise is not None
    zeros = np.zeros(manifest.message.dimension, np.uint32)
    drawn = np.concatenate(
        [
            ours.noisy(manifest, invitation(manifest, session=bytes([number]) * 16), zeros)[
                : noise.coordinates
            ]
            for number in range(40)
        ]
    ).astype(np.int64)
    drawn = np.where(drawn >= 1 << 23, drawn - (1 << 24), drawn)
    variance = noise.sigma**2 / noise.shares
    assert abs(np.mean(drawn.astype(float) ** 2) / variance - 1) < 6 * (2 / len(drawn)) ** 0.5


def test_what_protects_nobody_is_refused():
    manifest = published("jax").manifest
    vector = np.zeros(manifest.message.dimension, np.uint32)
    with pytest.raises(fr.PrivacyError, match="no entropy"):
        Rehearsed(SEED).noisy(manifest, invitation(manifest), vector)
    with pytest.raises(fr.PrivacyError, match="in the clear"):
        Own(SECRET).noisy(manifest, invitation(manifest), vector.astype(np.int32))
    with pytest.raises(fr.PrivacyError, match="4 bytes"):
        Own(b"1234")
    assert SECRET.hex() not in repr(vars(type(Own(SECRET)))) + repr(Own(SECRET)) + repr(Rehearsed(1, ENTROPY))
