"""The one contract of this room: what travels, what is known of it beforehand, and what a stage is.

A stage is a pair of pure functions. `encode` runs on the device, on one client's message; `decode` runs on
the server, on the **sum** of the messages of a round. Stages are composed with `chain`: encode in order,
decode in reverse. What is known before any data is seen (length, bounds, bits) is a `MessageSpec`; a stage is
bound to the signal it receives and says what it sends, so that a chain that cannot work is refused when a
plan is made.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax

from fairyring.core.errors import PlanError
from fairyring.core.noise import Noise, NoiseRequest


class Message(NamedTuple):
    """What one client sends, or the sum of what many sent.

    `vector` is the update, `[dimension]`; `auxiliary` is everything that travels with it, `[len(spec.auxiliary)]`:
    first the weight, then the client's means of each metric.
    """

    vector: jax.Array
    auxiliary: jax.Array


class Auxiliary(NamedTuple):
    """A coordinate beside the update, in `[0, bound]`; `bound` is `inf` where none is known."""

    name: str
    bound: float


@dataclass(frozen=True)
class Masking:
    """Under which assumptions a sum is secret, and when it is not released at all.

    Attributes:
        modulus_bits: sums are taken modulo `2**modulus_bits`.
        threat: what the server is trusted with: `"semi_honest"` or `"semi_malicious"`.
        adversarial_rate: the share of clients that may work together with it.
        dropout_rate: the share of clients that may vanish.
        minimum_cohort: a sum of fewer clients is never released; None to leave that to the plan.
    """

    modulus_bits: int = 32
    threat: str = "semi_honest"
    adversarial_rate: float = 0.1
    dropout_rate: float = 0.1
    minimum_cohort: int | None = None


@dataclass(frozen=True)
class MessageSpec:
    """What is known of a message at one point of a chain, before any data.

    Bounds hold for one client's message, up to float32 rounding (relative 1e-5).

    Attributes:
        dimension: length of the vector.
        cohort: the most messages that will ever be summed.
        side: the coordinates beside the update; `auxiliary[0]` is the number of examples until a weighting stage
            has turned it into the weight. A side coordinate travels as float32.
        l2: bound on the vector's Euclidean norm, or None. Always guaranteed.
        linf: bound on the size of a coordinate, or None.
        linf_failure: probability, over the shared randomness of a round, that one message breaks `linf`;
            0 where `linf` is guaranteed.
        bits: bits a vector coordinate takes on the wire.
        nonzero: the most coordinates that are not zero, where that is fewer than all: the message then
            travels as (index, value) pairs.
        integer: the vector holds whole numbers (int32, or uint32 under a modulus).
        modulus_bits: sums are taken modulo `2**modulus_bits` (uint32), or None.
        summable: messages of this form can be added under masks.
        masking: how they are, once a secure sum is in the chain.
        uniform: every client weighs 1.
        counted: how many clients a sum is of is no secret. It is one where a promise rests on secret sampling.
        honest: the fewest honest clients a sum will ever be of.
        sum_bits: the sum will be taken modulo `2**sum_bits`, which a noise stage must leave room in.
        noise: what is added to the vector, once a noise stage is in the chain.
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
    public_count: bool = True
    honest: int = 1
    sum_bits: int = 32
    noise: Noise | None = None

    def replace(self, **changes: Any) -> "Signal":
        """This signal with some fields changed."""
        return replace(self, **changes)

    @property
    def hides_nonfinite(self) -> bool:
        """Nobody may see whose update was not finite: such a client is counted as all others, and sends zeros.

        So it is under a noise stage, whose promise covers the divisor as well, and under masks.
        """
        return self.noise is not None or self.masking is not None

    @property
    def index_bits(self) -> int:
        """Bits an index takes on the wire where only `nonzero` coordinates travel."""
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
        """Length of one encoded message on the wire; `wire.pack` makes exactly this many."""
        return self.vector_bytes + 4 * len(self.auxiliary)


class BoundStage(NamedTuple):
    """A stage bound to the signal it receives.

    Attributes:
        signal: what is known of the message after `encode`.
        encode: `(message, client_key, round_key) -> message`, on the device, for one client. `round_key` is
            the same for all clients of a round and known to the server (shared randomness).
        decode: `(summed message, round_key) -> message`, on the server, the inverse on sums.
    """

    spec: MessageSpec
    encode: Callable[[Message, jax.Array, jax.Array], Message]
    decode: Callable[[Message, jax.Array], Message]


class Properties(NamedTuple):
    """What a stage promises; every claim is tested by the one battery all stages go through.

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
        """What holds of one stage followed by another: what holds of both."""
        return Properties(*(mine and theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Stage:
    """One step of aggregation.

    What a stage *is* stands in its fields: nothing is decided by its name.

    Attributes:
        name: as a person reads it, such as ``clip(0.5)``.
        bind: `MessageSpec -> BoundStage`; raises `PlanError` where the stage cannot follow what came before.
        weighting: this stage decides the weight of a client.
        settings: the arguments of the function that makes the stage, all of them, as plain values.
        properties: what it promises.
        kind: the name of that function, such as ``clip``; empty for a stage of one's own, which a plan's document can
            name by its program only.
        bounds_influence: no client moves the sum further than a bound that the stage sets, whatever its update is.
        clips_to: the norm that longer vectors are scaled down to; None where nothing is scaled.
        chained: a chain, of `parts` stages.
        parts: the stages of a chain, in order; empty for a single stage.
        masking: what a secure sum among the stages promises.
        noise: what a noise stage among the stages is; its multiplier is None until it is calibrated.
        with_noise: `(multiplier, bands) -> Stage`: the same with that noise multiplier, and so many bands where they
            were left open; None where there is no noise stage.
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
        """The stages this is made of: itself, where it is no chain."""
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
            expected="nothing but secure_sum after the noise, which was measured for the vector as it is there",
            do=f"Move {stage} before the noise.",
        )
    if spec.integer:
        raise PlanError(
            f"a chain with {stage} after quantize",
            given="a vector of whole numbers",
            expected="a vector of real numbers",
            do=f"Move {stage} before quantize.",
        )


def require_positive(stage: str, setting: str, value: float) -> float:
    """`value` as a float; raises `PlanError` unless it is a number that float32 arithmetic has room for."""
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
            expected="a number from 2^-64 to 2^64: beyond, products and squares of float32 overflow or vanish",
            do="Choose another unit.",
        )
    return float(value)


def fits(value: float) -> bool:
    """Whether float32 has room for `value` times, and over, anything else that is stated of a message."""
    return 2.0**-64 <= value <= 2.0**64


def require_integer(stage: str, setting: str, value: int, low: int, high: int | None = None) -> int:
    """`value`; raises `PlanError` unless it is an int in `[low, high]`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise PlanError(
            f"{stage} {setting}",
            given=repr(value),
            expected=f"a whole number from {low}" + ("" if high is None else f" to {high}"),
            do=f"Choose {setting} in that range.",
        )
    return value
