"""The sum a server may see: whole numbers modulo 2^b, with everything that travels inside one vector."""

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
    require_integer,
)
from fairyring.aggregation.finite import known
from fairyring.core.errors import PlanError
from fairyring.core.words import sixteen_bits

_FINEST = 1 << 24  # a float32 tells no more values apart in [0, bound]


def secure_sum(
    modulus_bits: int = 32,
    *,
    threat: str = "semi_honest",
    adversarial_rate: float = 0.1,
    dropout_rate: float = 0.1,
    minimum_cohort: int | None = None,
) -> Stage:
    """Show the server only the sum: messages become uint32 vectors that add modulo `2^modulus_bits`, under masks.

    This stage is the encoding, and the statement of what is promised; the masks are the protocol's
    (`fairyring.secagg`), which runs behind it: with real messages in `simulate(..., secure_sum="protocol")`, and on
    devices. In a simulation without it the integers are added as they are, which gives the same sums, to the last bit,
    and **protects nothing**.

    The quantised vector is taken modulo `2^b`. Side coordinates (weight, means) follow it in the same vector
    `[dimension + len(auxiliary)]`, as fixed-point numbers: `[0, bound]` in `min(2^24, floor((2^b - 1) / cohort))`
    levels with stochastic rounding, so a sum is right on average and within `cohort * bound / levels`. That
    no sum can overflow is proved when the plan is made. On the wire a coordinate takes `modulus_bits` bits.

    Decoding reads only the low `modulus_bits` bits, so a plain wrapping sum of uint32 may be given to it.

    Args:
        modulus_bits: `b`, 16 to 32.
        threat: what the server is trusted with: `"semi_honest"` (it follows the protocol and looks at all it sees) or
            `"semi_malicious"` (it may also tell clients different stories of who stayed).
        adversarial_rate: the share of clients that may work together with it.
        dropout_rate: the share of clients that may vanish before the sum is lost.
        minimum_cohort: a sum of fewer clients is never released, at least 3; without it half the cohort, or a quarter
            of the most clients of a Poisson cohort.

    Raises:
        PlanError: `modulus_bits` is out of range; when bound to a signal: the vector is not quantised,
            cannot be summed under masks, a side coordinate has no bound, or a sum might overflow (the error
            names the modulus, bits or cohort that would do). When a plan is made: no neighbour graph is both secure
            and able to recover at these rates (the error names the nearest that would do).
    """
    require_integer("secure_sum", "modulus_bits", modulus_bits, 16, 32)
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
            # Beyond its bound a coordinate would overflow into its neighbours' meaning.
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
            # Shifting the sign bit up and back extends it.
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
                expected="a known largest value for everything that travels",
                do=f"Use {first}, and give the metric a bound if it has none.",
            )
    largest = spec.cohort * int(spec.linf)
    if largest >= 1 << (modulus_bits - 1):
        needed = largest.bit_length() + 1
        fits = ((1 << (modulus_bits - 1)) - 1) // int(spec.linf)
        levels = ((1 << (modulus_bits - 1)) - 1) // spec.cohort
        bits = (levels + 1).bit_length() if levels else 0  # the most with 2^(bits-1) - 1 <= levels
        ways = [f"modulus_bits={needed}"] if needed <= 32 else []
        ways += [f"quantize(bits={bits})"] if bits >= 2 else []
        ways += [f"a cohort of at most {fits}"] if fits else []
        raise PlanError(
            name,
            given=f"{spec.cohort} clients of {int(spec.linf)} levels either side",
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
