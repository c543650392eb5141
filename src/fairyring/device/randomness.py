"""Where the random numbers of a device come from: from its own secret, or, in a rehearsal, from the seed of a simulation.

A compiled program takes keys as two words each. The generator behind them is Threefry-2x32 with 20 rounds (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"), of which one block makes a key of another key and a number. It is written here once
more, so that a device needs no JAX; `fairyring.core.keys` says what keys are for.
"""

from typing import Protocol

import numpy as np

from fairyring.core.errors import PrivacyError
from fairyring.core.noise import Noise
from fairyring.messages import Invitation, Manifest
from fairyring.privacy.entropy import derive, require_key
from fairyring.privacy.source import NoiseSource

_WORD = 0xFFFFFFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

Key = tuple[int, int]


def of_seed(seed: int) -> Key:
    """The key of a seed from 0 to 2^64 - 1: the words of `fairyring.core.keys.root`."""
    low, high = seed & _WORD, seed >> 32
    return fold_in((0, low), high) if high else (0, low)


def fold_in(key: Key, number: int) -> Key:
    """The key of a key and a number from 0 to 2^32 - 1: the words of `jax.random.fold_in`."""
    schedule = key[0], key[1], key[0] ^ key[1] ^ _PARITY
    x, y = schedule[0], (number + schedule[1]) & _WORD
    for turn in range(5):
        for by in _ROTATIONS[turn % 2]:
            x = (x + y) & _WORD
            y = ((y << by | y >> (32 - by)) & _WORD) ^ x
        x = (x + schedule[(turn + 1) % 3]) & _WORD
        y = (y + schedule[(turn + 2) % 3] + turn + 1) & _WORD
    return x, y


class Randomness(Protocol):
    """What a device draws for its part of a round."""

    def client_key(self, manifest: Manifest, invitation: Invitation) -> np.ndarray:
        """The words of the client's key: uint32 `[2]`."""
        ...

    def noisy(self, manifest: Manifest, invitation: Invitation, vector: np.ndarray) -> np.ndarray:
        """A report with this device's share of the noise, where the plan's devices add one; otherwise `vector` itself.

        Args:
            manifest, invitation: the plan and the round.
            vector: uint32 `[dimension]`, modulo `2**modulus_bits`; it is not changed.
        """
        ...

    def steps(self, manifest: Manifest, invitation: Invitation, examples: int) -> dict[str, np.ndarray]:
        """What noisy local steps need: the program's arguments `noise` and `batches`, int32, as far as it has them; otherwise nothing.

        Args:
            manifest, invitation: the plan and the round.
            examples: how many this device trains on.
        """
        ...


class Own:
    """All of a device's randomness from its secret: nobody who does not know the secret can take the noise away.

    An address is the plan, the run, the round, the session, the model and the shared key. A session's number is the service's to
    choose: with the model among the address, a service that gives two rounds one number gets no noise twice. Two reports for one
    invitation have the same noise, so only one may be sent: `DeviceLedger` keeps that.

    Args:
        secret: 32 bytes; see `DeviceFolder.secret`.

    Raises:
        PrivacyError: `secret` does not have 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = require_key(secret)

    def client_key(self, manifest: Manifest, invitation: Invitation) -> np.ndarray:
        """See `Randomness`."""
        return np.frombuffer(self._root("key", manifest, invitation)[:8], "<u4").astype(np.uint32)

    def noisy(self, manifest: Manifest, invitation: Invitation, vector: np.ndarray) -> np.ndarray:
        """See `Randomness`."""
        if manifest.noise is None:
            return vector
        source = NoiseSource(manifest.noise, self._root("share", manifest, invitation))
        return _with_share(manifest, vector, source.of_client(0, 0))

    def steps(self, manifest: Manifest, invitation: Invitation, examples: int) -> dict[str, np.ndarray]:
        """See `Randomness`."""
        if manifest.step_noise is None:
            return {}
        source = NoiseSource(manifest.step_noise, self._root("step", manifest, invitation))
        return _drawn(source, manifest, (0, 0), examples)

    def _root(self, purpose: str, manifest: Manifest, invitation: Invitation) -> bytes:
        shared = invitation.shared_key
        parts = manifest.plan, invitation.session, invitation.model, invitation.manifest
        return derive(
            self._secret,
            *("device", purpose, invitation.run, invitation.round, *shared),
            *(part.hex() for part in parts),
        )

    def __repr__(self) -> str:
        return "Own()"


class Rehearsed:
    """What a simulation with this seed and entropy draws for a client: a rehearsal of a service gives a simulation's bits.

    **This protects nobody**: who knows the seed and the entropy, as the service does, can take all noise away. It is for a service and its
    devices on one machine, with data that needs no protection. Rounds and clients are below 2^32.

    Args:
        seed: of the run.
        entropy: 32 bytes that its noise is made from; None for a plan without noise.
    """

    def __init__(self, seed: int, entropy: bytes | None = None) -> None:
        self._root = of_seed(seed)
        self._entropy = None if entropy is None else require_key(entropy)

    def client_key(self, manifest: Manifest, invitation: Invitation) -> np.ndarray:
        """See `Randomness`."""
        key = fold_in(fold_in(self._root, invitation.round), invitation.place)
        return np.array(key, np.uint32)

    def noisy(self, manifest: Manifest, invitation: Invitation, vector: np.ndarray) -> np.ndarray:
        """See `Randomness`."""
        if manifest.noise is None:
            return vector
        source = self._source(manifest.noise)
        return _with_share(manifest, vector, source.of_client(invitation.reservation, invitation.place))

    def steps(self, manifest: Manifest, invitation: Invitation, examples: int) -> dict[str, np.ndarray]:
        """See `Randomness`."""
        if manifest.step_noise is None:
            return {}
        source = self._source(manifest.step_noise)
        return _drawn(source, manifest, (invitation.reservation, invitation.place), examples)

    def _source(self, noise: Noise) -> NoiseSource:
        if self._entropy is None:
            raise PrivacyError(
                "rehearsal",
                given="a plan with noise, and no entropy",
                expected="the 32 bytes that the simulation makes its noise from",
                do="Give Rehearsed(seed, entropy).",
            )
        return NoiseSource(noise, self._entropy)

    def __repr__(self) -> str:
        return "Rehearsed()"


def _with_share(manifest: Manifest, vector: np.ndarray, share: np.ndarray) -> np.ndarray:
    bits = manifest.message.modulus_bits
    if bits is None or vector.dtype != np.uint32:
        raise PrivacyError(
            "share of the noise",
            given=f"a report of {vector.dtype} that is sent in the clear",
            expected="one under masks: a share protects nobody by itself",
            do="End the plan's aggregation with secure_sum.",
        )
    noisy = vector.copy()
    noisy[: len(share)] += share.astype(np.uint32)
    return noisy & np.uint32((1 << bits) - 1)


def _drawn(
    source: NoiseSource, manifest: Manifest, address: tuple[int, int], examples: int
) -> dict[str, np.ndarray]:
    shapes = {array.name: array.shape for array in manifest.arguments}
    drawn: dict[str, np.ndarray] = {}
    if "noise" in shapes:
        drawn["noise"] = np.zeros(shapes["noise"], np.int32)
        for step in range(shapes["noise"][0]):
            drawn["noise"][step] = source.of_step(*address, step)
    if "batches" in shapes:
        assert manifest.rate is not None, "batches are drawn with a probability"
        drawn["batches"] = np.full(shapes["batches"], -1, np.int32)
        for step in range(shapes["batches"][0]):
            places = source.batch_of(*address, step, examples, manifest.rate)
            drawn["batches"][step, : len(places)] = places
    return drawn
