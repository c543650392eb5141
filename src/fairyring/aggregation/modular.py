"""The sum that a server may see: integers modulo 2^b, with everything that travels in one vector."""

import math
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.aggregation.contract import (
    BoundStage,
    Masking,
    Message,
    MessageSpec,
    Properties,
    Stage,
)
from fairyring.aggregation.finite import known
from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError
from fairyring.core.words import sixteen_bits

_FINEST = 1 << 24  # float32 cannot distinguish more values in [0, bound]


def secure_sum(
    modulus_bits: int = 32,
    *,
    threat: str = "semi_honest",
    adversarial_rate: float = 0.1,
    dropout_rate: float = 0.1,
    minimum_cohort: int | None = None,
) -> Stage:
    """Show the server only the sum: messages become uint32 vectors that add modulo `2^modulus_bits`, under masks.

    This stage encodes the vector and states what is promised. The masks are added by the protocol in `fairyring.secagg`,
    which runs on devices, and with real messages in `simulate(..., secure_sum="protocol")`. A simulation without the
    protocol adds the integers directly. That gives exactly the same sums and **protects nothing**.

    The quantised vector is taken modulo `2^b`. Auxiliary values (weight, means) follow it in the same vector
    `[dimension + len(auxiliary)]` as fixed-point numbers: `[0, bound]` in `min(2^24, floor((2^b - 1) / cohort))` levels with
    stochastic rounding. So a sum is unbiased, with an error within `cohort * bound / levels`. That no sum can overflow is
    checked when the plan is made. A coordinate takes `modulus_bits` bits on the wire.

    Decoding reads only the low `modulus_bits` bits, so it accepts a plain wrapping sum of uint32.

    Args:
        modulus_bits: `b`, 16 to 32.
        threat: how far the server is trusted: `"semi_honest"` (it follows the protocol but looks at everything it
            receives) or `"semi_malicious"` (it may also announce different survivors to different clients).
        adversarial_rate: fraction of clients that may work together with the server.
        dropout_rate: fraction of clients that may vanish before the sum is lost.
        minimum_cohort: a sum of fewer clients is never released; at least 3. By default half the cohort, or a quarter
            of the maximum of a Poisson cohort.

    Raises:
        PlanError: `modulus_bits` is out of range. When bound: the vector is not quantised or cannot be summed under
            masks, an auxiliary value has no bound, or a sum might overflow (the error names a modulus, bits or cohort
            that would work). When a plan is made: no neighbour graph is both secure and able to recover at these
            rates (the error names the nearest that would work).
    """
    modulus_bits = whole_number("secure_sum modulus_bits", modulus_bits, least=16, most=32)
    masking = Masking(modulus_bits, threat, adversarial_rate, dropout_rate, minimum_cohort)
    settings, usual = asdict(masking), asdict(Masking())
    name = f"secure_sum({', '.join(f'{k}={v!r}' for k, v in settings.items() if v != usual[k])})"
    mask = np.uint32((1 << modulus_bits) - 1)
    spare = np.int32(32 - modulus_bits)

    def bind(spec: MessageSpec) -> BoundStage:
        _check(spec, name, modulus_bits)
        levels = min(_FINEST, int(mask) // spec.cohort)
        bounds = np.asarray([auxiliary.bound for auxiliary in spec.auxiliary], np.float32)
        to_levels = np.asarray([levels / s.bound if s.bound > 0 else 0.0 for s in spec.auxiliary], np.float32)

        def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
            # A value beyond its bound could overflow the sum.
            exact = jnp.minimum(
                jnp.clip(known(message.auxiliary, 0.0), 0.0, bounds) * to_levels, float(levels)
            )
            low = jnp.floor(exact)
            up = (exact - low) * 65536.0 > sixteen_bits(client_key, len(bounds)).astype(jnp.float32) + 0.5
            auxiliary = jnp.minimum(low.astype(jnp.uint32) + up.astype(jnp.uint32), np.uint32(levels))
            vector = message.vector.astype(jnp.uint32) & mask
            return Message(jnp.concatenate([vector, auxiliary]), jnp.zeros((0,), jnp.float32))

        def decode(total: Message, round_key: jax.Array) -> Message:
            vector = total.vector[: spec.dimension]
            # Shifting the sign bit up and back extends the sign.
            signed = jax.lax.bitcast_convert_type(vector << spare.astype(np.uint32), jnp.int32) >> spare
            auxiliary = (total.vector[spec.dimension :] & mask).astype(jnp.float32)
            return Message(signed, auxiliary * (bounds / np.float32(levels)))

        out = spec.replace(
            dimension=spec.dimension + len(spec.auxiliary),
            auxiliary=(),
            l2=None,
            linf=None,
            bits=modulus_bits,
            modulus_bits=modulus_bits,
            masking=masking,
        )
        return BoundStage(out, encode, decode)

    properties = Properties(unbiased=True, linear=False, lossless=False)
    return Stage(name, bind, False, tuple(settings.items()), properties, "secure_sum", masking=masking)


def _check(spec: MessageSpec, name: str, modulus_bits: int) -> None:
    if spec.modulus_bits is not None:
        raise PlanError(name, given="a second secure_sum", expected="one, at the end", do="Remove one.")
    if not spec.integer or spec.linf is None:
        raise PlanError(
            name,
            given="a vector of real numbers",
            expected="a quantised vector",
            do="Add quantize(bits=8) before secure_sum, or a noise stage in its place.",
        )
    if not spec.summable:
        raise PlanError(
            name,
            given="messages whose coordinates differ from client to client (top_k)",
            expected="messages that can be added under masks",
            do="Use random_k or count_sketch in place of top_k, or leave secure_sum out.",
        )
    for auxiliary in spec.auxiliary:
        if not math.isfinite(auxiliary.bound):
            first = "weight_by_examples(bound=...) or weight_uniformly() first"
            raise PlanError(
                f"{name}, coordinate {auxiliary.name!r}",
                given="no bound",
                expected="a known bound for everything that travels",
                do=f"Use {first}, and give the metric a bound if it has none.",
            )
    largest = spec.cohort * int(spec.linf)
    if largest >= 1 << (modulus_bits - 1):
        needed = largest.bit_length() + 1
        fits = ((1 << (modulus_bits - 1)) - 1) // int(spec.linf)
        levels = ((1 << (modulus_bits - 1)) - 1) // spec.cohort
        bits = (levels + 1).bit_length() if levels else 0  # the largest with 2^(bits-1) - 1 <= levels
        ways = [f"modulus_bits={needed}"] if needed <= 32 else []
        ways += [f"quantize(bits={bits})"] if bits >= 2 else []
        ways += [f"a cohort of at most {fits}"] if fits else []
        raise PlanError(
            name,
            given=f"{spec.cohort} clients of {int(spec.linf)} levels on either side of 0",
            expected=f"a sum below 2^{modulus_bits - 1}, so that it cannot wrap around",
            do=f"Use {' or '.join(ways) or 'fewer bits and a larger modulus'}.",
        )
    if spec.auxiliary and spec.cohort > (1 << modulus_bits) - 1:
        raise PlanError(
            name,
            given=f"a cohort of {spec.cohort}",
            expected=f"at most {(1 << modulus_bits) - 1}",
            do="Use a larger modulus or a smaller cohort.",
        )
