"""Addressed randomness: every random number of a simulation has an address, and does not depend on the order of draws.

The key for a client in a round is the seed's key with round, client and purpose folded in, in that order. No key is
split from a running state, so a result does not depend on how clients are batched, on how many workers there are, or
on what was drawn before.

This randomness is for simulation. Randomness that protects people (masks, privacy noise) never comes from here.
"""

from enum import IntEnum
from typing import Any

import jax
import numpy as np

from fairyring.core.checks import whole_number
from fairyring.core.program import shared_jit


class Purpose(IntEnum):
    """What a key is for. Runs are reproducible only if the values never change: add new ones, never renumber."""

    INIT = 0  # the initial parameters of a model
    COHORT = 1  # which clients take part in a round
    DROPOUT = 2  # which of them vanish before they report
    SHUFFLE = 3  # the order of a client's examples
    MODEL = 4  # dropout and other randomness inside a model
    ENCODE = 5  # stochastic rounding and other randomness of one client's stages
    SHARED = 6  # randomness shared by all clients of a round: rotation signs, sketch hashes
    DROPOUT_POINT = 7  # at which point of a secure sum a client vanishes
    CANARY = 8  # the directions of an audit's canaries
    TURNS = 9  # the order in which clients take turns
    CALL = 10  # a client's second pass over its examples in a round, and those after it


NOBODY = 0xFFFFFFFF  # in place of a client, for randomness of the whole round


def root(seed: int) -> jax.Array:
    """The typed key of a seed: all of its 64 bits count.

    Raises:
        PlanError: it is not a whole number from 0 to 2^64 - 1.
    """
    seed = whole_number("seed", seed, least=0, most=(1 << 64) - 1, do="Set seed=0, or any other.")
    low, high = seed & 0xFFFFFFFF, seed >> 32
    key = _key_of(np.uint32(low))
    return jax.random.fold_in(key, np.uint32(high)) if high else key


# What is not called within a program is one by itself, to be found among the user's compiled programs.
@shared_jit
def _key_of(seed: Any) -> jax.Array:
    return jax.random.key(seed)


@shared_jit
def of_first_model(root: jax.Array) -> jax.Array:
    """The key with which a run's first model is initialised."""
    return of_client(of_round(root, 0), NOBODY, Purpose.INIT)


def key_shape() -> jax.ShapeDtypeStruct:
    """A key's shape and dtype, to trace a function of a key."""
    return jax.eval_shape(lambda: jax.random.key(0))


def of_round(root: jax.Array, round: int | jax.Array) -> jax.Array:
    """The key of a round, into which a client and a purpose are folded."""
    return jax.random.fold_in(root, round)


def of_client(round_key: jax.Array, client: int | jax.Array, purpose: Purpose) -> jax.Array:
    """The key for one purpose of one client in a round. `client` is its index in the population."""
    return jax.random.fold_in(jax.random.fold_in(round_key, client), int(purpose))


def shared(round_key: jax.Array, purpose: Purpose) -> jax.Array:
    """The key for one purpose of the whole round."""
    return of_client(round_key, NOBODY, purpose)
