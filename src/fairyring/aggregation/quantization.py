"""Unbiased rounding of real numbers to a few bits each."""

import jax
import jax.numpy as jnp

from fairyring.aggregation.contract import (
    BoundStage,
    Message,
    MessageSpec,
    Properties,
    Stage,
    require_positive,
    require_real,
)
from fairyring.aggregation.finite import finite_or_zero
from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError
from fairyring.core.words import sixteen_bits


def quantize(bits: int = 8, bound: float | None = None) -> Stage:
    """Uniform quantisation with stochastic rounding (Suresh et al. 2017; Alistarh et al. 2017).

    The range `[-bound, bound]` has `2 L + 1` levels, `L = 2^(bits-1) - 1`, one `step = bound / L` apart. A
    value is rounded to one of the two levels around it, with probabilities that make it unbiased. The error of a coordinate
    is below one step, its variance at most `step^2 / 4`, and its bias at most `2^-17` steps (sixteen random bits per
    coordinate). Zero stays zero. **Values beyond the range are clamped**, and only then is the result biased. A vector that
    is not finite becomes zeros.

    Rounding is integer arithmetic after one multiplication, so every compiler gives the same bits.

    Args:
        bits: bits of a coordinate on the wire, 2 to 16.
        bound: half the range. By default the bound that the chain knows for a coordinate: after `clip` alone that is the
            clip norm, after `rotate` it is far less.

    Raises:
        PlanError: `bits` or `bound` is out of range; when bound: no range is known, or the sum of a cohort's
            levels does not fit into 32 bits.
    """
    bits = whole_number("quantize bits", bits, least=2, most=16)
    if bound is not None:
        bound = require_positive("quantize", "bound", bound)
    name = f"quantize(bits={bits}{'' if bound is None else f', bound={bound:g}'})"
    levels = (1 << (bits - 1)) - 1

    def bind(spec: MessageSpec) -> BoundStage:
        require_real(spec, name)
        limit = spec.linf if bound is None else bound
        if limit is None or limit <= 0:
            raise PlanError(
                name,
                given="a vector of unknown range",
                expected="a bound on the magnitude of a coordinate",
                do="Put clip(norm), ideally followed by rotate(), before it, or give quantize(bound=...); "
                "after weight_by_examples the range is known only with a bound.",
            )
        if spec.cohort * levels >= 1 << 31:
            raise PlanError(
                name,
                given=f"{spec.cohort} clients of {levels} levels",
                expected="a sum below 2^31",
                do=f"Use a cohort of at most {((1 << 31) - 1) // levels}, or fewer bits.",
            )
        step = limit / levels

        def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
            # A clipped vector is finite.
            vector = message.vector if spec.l2 is not None else finite_or_zero(message.vector)
            # In 65536ths of a step. This is the only rounding of floats, and the largest value is exact in float32.
            fine = jax.lax.round(vector * (65536.0 / step), jax.lax.RoundingMethod.TO_NEAREST_EVEN)
            fine = jnp.clip(fine, -levels * 65536.0, levels * 65536.0).astype(jnp.int32)
            return Message((fine + sixteen_bits(client_key, spec.dimension)) >> 16, message.auxiliary)

        def decode(total: Message, round_key: jax.Array) -> Message:
            return Message(total.vector.astype(jnp.float32) * step, total.auxiliary)

        root = (spec.dimension if spec.nonzero is None else spec.nonzero) ** 0.5
        l2 = levels * root
        if spec.l2 is not None:
            l2 = min(l2, spec.l2 / step + (1 + 2.0**-16) * root)
        out = spec.replace(bits=bits, integer=True, l2=l2, linf=float(levels), linf_failure=0.0)
        return BoundStage(out, encode, decode)

    properties = Properties(unbiased=True, linear=False, lossless=False)
    settings = (("bits", bits), ("bound", bound))
    # Values beyond the range are clamped, whoever set the range.
    return Stage(name, bind, False, settings, properties, "quantize", bounds_influence=True)
