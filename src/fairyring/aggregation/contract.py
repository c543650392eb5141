"""The contract of an aggregation stage: messages, what is known of them in advance, and stages.

A stage is a pair of pure functions. `encode` runs on the device, on one client's message; `decode` runs on the server, on
the **sum** of a round's messages. Stages are composed with `chain`: encode in order, decode in reverse. A `MessageSpec`
is what is known of a message before any data is seen (length, bounds, bits). A stage is bound to the spec of the messages
it receives and gives the spec of those it sends. So a chain that cannot work is refused when the plan is made.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from fairyring.core.errors import PlanError
from fairyring.core.noise import Noise, NoiseRequest

# Of JAX within a program, of NumPy outside. A device reads this contract without JAX.
Array = Any


class Message(NamedTuple):
    """One client's message, or the sum of many clients' messages.

    `vector` is the update, `[dimension]`. `auxiliary` is everything that travels with it, `[len(spec.auxiliary)]`: first the
    weight, then the client's means of loss and metrics.
    """

    vector: Array
    auxiliary: Array


class Auxiliary(NamedTuple):
    """A value that travels with the update, in `[0, bound]`; `bound` is `inf` if none is known."""

    name: str
    bound: float


@dataclass(frozen=True)
class Masking:
    """The assumptions under which a sum is secret, and when it is not released.

    Attributes:
        modulus_bits: sums are taken modulo `2**modulus_bits`.
        threat: how far the server is trusted: `"semi_honest"` or `"semi_malicious"`.
        adversarial_rate: fraction of clients that may work together with the server.
        dropout_rate: fraction of clients that may vanish.
        minimum_cohort: a sum of fewer clients is never released; None if the plan decides.
    """

    modulus_bits: int = 32
    threat: str = "semi_honest"
    adversarial_rate: float = 0.1
    dropout_rate: float = 0.1
    minimum_cohort: int | None = None


@dataclass(frozen=True)
class MessageSpec:
    """What is known of a message at one point of a chain, before any data is seen.

    Bounds hold for one client's message, up to float32 rounding (relative 1e-5).

    Attributes:
        dimension: length of the vector.
        cohort: largest number of messages that are summed.
        auxiliary: the values that travel with the update, as float32. `auxiliary[0]` is the number of examples until a
            weighting stage has turned it into the weight.
        l2: bound on the vector's Euclidean norm, or None. Always guaranteed.
        linf: bound on the magnitude of a coordinate, or None.
        linf_failure: probability, over the shared randomness of a round, that a message exceeds `linf`; 0 if `linf` is
            guaranteed.
        bits: bits of a vector coordinate on the wire.
        nonzero: largest number of coordinates that are not zero, if that is fewer than all; the message then travels as
            (index, value) pairs.
        integer: the vector holds integers (int32, or uint32 under a modulus).
        modulus_bits: sums are taken modulo `2**modulus_bits` (uint32), or None.
        summable: messages of this form can be added under masks.
        masking: the assumptions of the secure sum, once one is in the chain.
        uniform: every client has weight 1.
        holds_bounds: values that travel with the update are cut to their bounds, because whole numbers of them are summed, or noise was
            chosen for the bounds. Otherwise they travel as they are.
        public_count: the number of clients in a sum is not a secret. It is one if a promise rests on secret sampling.
        honest: smallest number of honest clients in a sum.
        sum_bits: the sum will be taken modulo `2**sum_bits`; a noise stage must leave room in it.
        noise: the noise that is added to the vector, once a noise stage is in the chain.
    """

    dimension: int
    cohort: int
    auxiliary: tuple[Auxiliary, ...] = (Auxiliary("examples", math.inf),)
    l2: float | None = None
    linf: float | None = None
    linf_failure: float = 0.0
    bits: int = 32
    nonzero: int | None = None
    integer: bool = False
    modulus_bits: int | None = None
    summable: bool = True
    masking: Masking | None = None
    uniform: bool = False
    holds_bounds: bool = True
    public_count: bool = True
    honest: int = 1
    sum_bits: int = 32
    noise: Noise | None = None

    def replace(self, **changes: Any) -> "MessageSpec":
        """This spec with some fields changed."""
        return replace(self, **changes)

    @property
    def hides_nonfinite(self) -> bool:
        """Nobody may see whose update was not finite: such a client counts like any other, and sends zeros.

        This holds with a noise stage, whose promise also covers the divisor, and under masks.
        """
        return self.noise is not None or self.masking is not None

    @property
    def index_bits(self) -> int:
        """Bits of an index on the wire if only `nonzero` coordinates travel."""
        return max(1, (self.dimension - 1).bit_length())

    @property
    def vector_bytes(self) -> int:
        """Length of one encoded vector on the wire."""
        if self.nonzero is None:
            bits = self.dimension * self.bits
        else:
            bits = self.nonzero * (self.index_bits + self.bits)
        return -(-bits // 8)

    @property
    def bytes(self) -> int:
        """Length of one encoded message on the wire: exactly what `wire.pack` makes."""
        return self.vector_bytes + 4 * len(self.auxiliary)


class BoundStage(NamedTuple):
    """A stage bound to the spec of the message it receives.

    Attributes:
        spec: what is known of the message after `encode`.
        encode: `(message, client_key, round_key) -> message`, on the device, for one client. `round_key` is
            the same for all clients of a round and known to the server (shared randomness).
        decode: `(summed message, round_key) -> message`, on the server, the inverse on sums.
        relative_norm: `(message, client_key, round_key) -> float32 scalar`: the norm of the vector where the first clip takes it, as a
            multiple of what it is clipped to: above 1 if the clip cuts it. None without a clip. A diagnostic of simulations; no device
            sends it.
    """

    spec: MessageSpec
    encode: Callable[[Message, Array, Array], Message]
    decode: Callable[[Message, Array], Message]
    relative_norm: Callable[[Message, Array, Array], Array] | None = None


class Properties(NamedTuple):
    """What a stage promises. All stages go through one battery of tests, which checks every claim.

    Attributes:
        unbiased: the expected decoded sum is the sum (of what lies within the stated bounds).
        linear: with the round key fixed, decoding a sum of encodings gives the sum of the decodings.
        lossless: decoding an encoding gives the vector back, up to float32 rounding.
        summable: its messages can be added under masks.
    """

    unbiased: bool
    linear: bool
    lossless: bool
    summable: bool = True

    def then(self, other: "Properties") -> "Properties":
        """The properties of one stage followed by another: those that both have."""
        return Properties(*(mine and theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Stage:
    """One step of aggregation.

    What a stage *is* stands in its fields: nothing depends on its name.

    Attributes:
        name: for people, such as ``clip(0.5)``.
        bind: `MessageSpec -> BoundStage`; raises `PlanError` if the stage cannot follow those before it.
        weighting: this stage decides the weight of a client.
        settings: all arguments of the function that makes the stage, as plain values.
        properties: what the stage promises.
        kind: name of that function, such as ``clip``; empty for a user's own stage, which a plan's document can identify
            only by its program.
        bounds_influence: the stage bounds how far one client can move the sum, whatever its update is.
        clips_to: norm to which longer vectors are scaled down; None if the stage does not clip.
        chained: the stage is a chain of `parts`.
        parts: the stages of a chain, in order; empty for a single stage.
        masking: the assumptions of a secure sum among the stages.
        noise: the request of a noise stage among the stages; its multiplier is None until it is calibrated.
        with_noise: `(multiplier, bands) -> Stage`: the same stage with that noise multiplier, and with that many bands if
            they were left open; None if there is no noise stage.
    """

    name: str
    bind: Callable[[MessageSpec], BoundStage]
    weighting: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    properties: Properties = field(default=Properties(unbiased=False, linear=False, lossless=False))
    kind: str = ""
    bounds_influence: bool = False
    clips_to: float | None = None
    chained: bool = False
    parts: tuple["Stage", ...] = ()
    masking: Masking | None = None
    noise: NoiseRequest | None = None
    with_noise: "Callable[[float, int], Stage] | None" = None

    @property
    def singles(self) -> tuple["Stage", ...]:
        """The stages of a chain; the stage itself if it is not a chain."""
        return self.parts if self.chained else (self,)

    def __repr__(self) -> str:
        return self.name


def require_real(spec: MessageSpec, stage: str) -> None:
    """Raise `PlanError` unless the vector still holds real numbers."""
    if spec.modulus_bits is not None:
        raise PlanError(
            f"a chain with {stage} after secure_sum",
            given=f"a vector modulo 2^{spec.modulus_bits}",
            expected="secure_sum as the last stage",
            do=f"Move {stage} before secure_sum.",
        )
    if spec.noise is not None:
        raise PlanError(
            f"a chain with {stage} after the noise",
            given=f"{spec.noise.mechanism} noise before it",
            expected="only secure_sum after the noise, which is calibrated for the vector at that point",
            do=f"Move {stage} before the noise.",
        )
    if spec.integer:
        raise PlanError(
            f"a chain with {stage} after quantize",
            given="a vector of integers",
            expected="a vector of real numbers",
            do=f"Move {stage} before quantize.",
        )


def require_positive(stage: str, setting: str, value: float) -> float:
    """`value` as a float; raises `PlanError` unless it is a number from 2^-64 to 2^64."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise PlanError(
            f"{stage} {setting}",
            given=repr(value),
            expected="a finite number above 0",
            do=f"Give {setting} as a number, such as 1.0.",
        )
    if not fits(value):
        raise PlanError(
            f"{stage} {setting}",
            given=repr(value),
            expected="a number from 2^-64 to 2^64: outside, float32 products and squares overflow or vanish",
            do="Choose another unit.",
        )
    return float(value)


def fits(value: float) -> bool:
    """Whether products and quotients of `value` with other bounds of a message stay within float32."""
    return 2.0**-64 <= value <= 2.0**64
