"""Addressed randomness: every random number of a simulation has an address, so it has no order.

The key of a thing that happens to a client in a round is `fold_in` of the seed's key by round, client and
purpose, in that order. Nothing is split from a running state, so a result does not depend on how clients are
batched, on how many workers there are, or on what was drawn before.

This randomness serves simulation. What protects a person (masks, privacy noise) never comes from here.
"""

from enum import IntEnum

import jax


class Purpose(IntEnum):
    """What a key is for. Values are part of a run's reproducibility: add, never renumber."""

    INIT = 0  # the first parameters of a model
    COHORT = 1  # who takes part in a round
    DROPOUT = 2  # which of them vanish before they report
    SHUFFLE = 3  # the order of a client's examples
    MODEL = 4  # dropout and other randomness inside a model
    ENCODE = 5  # stochastic rounding and other randomness of one client's stages
    SHARED = 6  # randomness all clients of a round share: rotation signs, sketch hashes
    DROPOUT_POINT = 7  # at which point of a secure sum a client vanishes
    CANARY = 8  # the directions an audit's canaries push in
    TURNS = 9  # the order in which clients take turns
    CALL = 10  # a client's second pass over its examples in a round, and those after it


NOBODY = 0xFFFFFFFF  # the client part of an address that concerns the whole round


def root(seed: int) -> jax.Array:
    """The typed key of a seed."""
    return jax.random.key(seed)


def of_round(root: jax.Array, round: int | jax.Array) -> jax.Array:
    """The key of a round; fold a client and a purpose into it next."""
    return jax.random.fold_in(root, round)


def of_client(round_key: jax.Array, client: int | jax.Array, purpose: Purpose) -> jax.Array:
    """The key of one purpose of one client in a round. `client` is its index in the population."""
    return jax.random.fold_in(jax.random.fold_in(round_key, client), int(purpose))


def shared(round_key: jax.Array, purpose: Purpose) -> jax.Array:
    """The key of something that concerns the whole round."""
    return of_client(round_key, NOBODY, purpose)
