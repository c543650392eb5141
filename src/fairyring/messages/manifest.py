"""The manifest of a plan: all that a device must know of it, signed by the plan's author.

A device believes a manifest because of its author's signature, and a service for nothing but availability. The programs of the plan are
named in it by their digests; secure sums follow its terms; how often a device takes part is bounded by its limits. It is read without JAX.
"""

import math
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from fairyring.aggregation.contract import MessageSpec
from fairyring.core.errors import WireError
from fairyring.core.noise import Noise
from fairyring.messages.signing import KEY_BYTES, SIGNATURE_BYTES, tagged, verified
from fairyring.secagg.identity import Identity
from fairyring.secagg.terms import Terms

FORM = 1
LARGEST = 4 << 20  # bytes of a signed manifest

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Key = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
SignatureBytes = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Text = Annotated[str, Meta(max_length=4000)]
Count = Annotated[int, Meta(ge=1, le=1 << 40)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Array(_Strict, frozen=True):
    """An array: its name, shape and dtype, such as ``"<f4"``."""

    name: Annotated[str, Meta(max_length=200)]
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=1 << 40)], ...], Meta(max_length=16)]
    dtype: Annotated[str, Meta(pattern=r"^[<|][fiub][1248]$")]

    @property
    def size(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of its bytes."""
        return self.size * np.dtype(self.dtype).itemsize

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], dtype: Any) -> "Array":
        """The description of an array of this shape and dtype."""
        return cls(name, tuple(shape), np.dtype(dtype).newbyteorder("<").str)


class Promise(_Strict, frozen=True):
    """What differential privacy a plan promises: epsilon and delta, to every `"device"` or `"example"`."""

    epsilon: float
    delta: float
    unit: Annotated[str, Meta(max_length=20)]


class Limits(_Strict, frozen=True):
    """How often a device takes part in a plan at most, and what a round may cost it.

    Attributes:
        rounds: the plan has at most so many rounds.
        participations: a device contributes to at most so many sums.
        separation: the rounds of two of them differ by at least so much.
        seconds: that training in a round may take.
        memory: bytes that it may take.
    """

    rounds: Count
    participations: Count
    separation: Count = 1
    seconds: Annotated[float, Meta(gt=0)] = 600.0
    memory: Count = 2 << 30


class Manifest(_Strict, frozen=True, kw_only=True):
    """A plan as a device sees it.

    Attributes:
        form: of this document.
        name: of the plan, for people.
        description: the plan in a sentence.
        statements: what it promises and what not, in sentences.
        plan: digest of the plan with its code.
        document: the plan's document, JSON.
        author: who signs it.
        columns: a row of each column that training reads.
        examples: the most examples that a round uses.
        arguments, results: of the programs, in order; see `fairyring.learning.program`.
        model: the arrays of what is broadcast, in order: parameters, then the algorithm's state on the server.
        programs: digest of the program for each target, such as `iree-x86_64`.
        message: what a report looks like.
        terms: of the secure sums; None if reports are sent in the clear.
        step_noise: the noise of every local step, where examples are protected; None otherwise.
        rate: with it, the probability of an example to be in a step's batch; None where batches are no samples.
        limits: how often a device takes part, and at what cost.
        promise: the differential privacy that the plan promises; None without.
        expires: the manifest is not good any longer from then on, in seconds since 1970; None for never.
    """

    form: Annotated[int, Meta(ge=FORM, le=FORM)] = FORM
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    description: Text
    statements: Annotated[tuple[Text, ...], Meta(max_length=100)]
    plan: Digest
    document: Annotated[bytes, Meta(max_length=1 << 20)]
    author: Key
    columns: tuple[Array, ...]
    examples: Count
    arguments: tuple[Array, ...]
    results: tuple[Array, ...]
    model: tuple[Array, ...]
    programs: dict[str, Digest]
    message: MessageSpec
    terms: Terms | None
    step_noise: Noise | None
    rate: float | None
    limits: Limits
    promise: Promise | None
    expires: float | None = None

    @property
    def noise(self) -> Noise | None:
        """The noise of which a device adds its share to its report; None if it adds none."""
        noise = self.message.noise
        return noise if noise is not None and noise.distributed else None

    @property
    def model_bytes(self) -> int:
        """Bytes of the model as it is sent."""
        return sum(array.nbytes for array in self.model)


class SignedManifest(_Strict, frozen=True):
    """A manifest as its author signed it. It is identified by the digest of these bytes."""

    manifest: Annotated[bytes, Meta(max_length=LARGEST)]
    signature: SignatureBytes

    def encode(self) -> bytes:
        """As bytes."""
        return msgspec.msgpack.encode(self)


def sign(manifest: Manifest, author: Identity) -> SignedManifest:
    """Sign a manifest, whose `author` is the public half of this key."""
    data = msgspec.msgpack.encode(manifest)
    return SignedManifest(data, author.sign(tagged("manifest", data)))


def read_manifest(data: bytes) -> Manifest:
    """The manifest in the bytes of a `SignedManifest`, whose author signed it. Whether to trust that author is for the caller to say.

    Raises:
        WireError: it is no manifest, or was not signed by the author that it names.
    """
    try:
        if len(data) > LARGEST:
            raise msgspec.ValidationError(f"{len(data)} bytes, of at most {LARGEST}")
        signed = msgspec.msgpack.decode(data, type=SignedManifest)
        manifest = msgspec.msgpack.decode(signed.manifest, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError) as error:
        raise WireError(
            "manifest",
            given=f"{error}",
            expected=f"a signed manifest of form {FORM}",
            do="Update this device, or submit the plan again with this version.",
        ) from error
    if not verified(manifest.author, signed.signature, tagged("manifest", signed.manifest)):
        raise WireError(
            "manifest",
            given="a signature that is not its author's",
            expected="the manifest as its author signed it",
            do="Do not use it: it was changed.",
        )
    return manifest
