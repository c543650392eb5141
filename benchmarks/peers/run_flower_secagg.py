"""Pieces of Flower's SecAgg+, timed; run by its own environment: `python run_flower_secagg.py --shares 96 ...`.

What is called, and with what, is what `secaggplus_mod` does on a device and `SecAggPlusWorkflow` on the server, with its
defaults: masks of `pseudo_rand_gen` (NumPy's Mersenne Twister, seeded with the XOR of a key's 32-bit words) modulo 2^32, as
int64; keys on P-384, agreed through HKDF; secrets (a 32-byte seed; a masking key, which is about 300 bytes of PEM) shared by
`create_shares` in pieces of 16 bytes; a masked vector as `ndarray_to_bytes` writes it. Only the functions are timed, not
their records, transport or simulation. Prints one line of JSON: milliseconds by the median, and bytes.
"""

import argparse
import json
import os
import random
from importlib.metadata import version

import numpy as np
from flwr.common import ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from timing import median_seconds

# The defaults of SecAggPlusWorkflow.
MODULUS, QUANTIZATION, CLIPPING = 1 << 32, 1 << 22, 8.0


def main() -> None:
    """Time each piece and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--length", type=int, required=True)
    arguments.add_argument("--shares", type=int, required=True)
    arguments.add_argument("--threshold", type=int, required=True)
    arguments.add_argument("--repeats", type=int, default=3, help="of the slow pieces")
    options = arguments.parse_args()

    updates = np.random.default_rng(0).normal(size=options.length)
    vector = factor_combine(QUANTIZATION // 1000, quantize([updates], CLIPPING, QUANTIZATION))
    shapes = [array.shape for array in vector]
    (own_key, own_public), (_, other_public) = generate_key_pairs(), generate_key_pairs()
    own, other = private_key_to_bytes(own_key), public_key_to_bytes(other_public)
    assert public_key_to_bytes(own_public) != other

    def agree() -> bytes:
        return generate_shared_key(bytes_to_private_key(own), bytes_to_public_key(other))

    key, seed = agree(), os.urandom(32)

    def mask() -> list[np.ndarray]:
        return parameters_addition(vector, pseudo_rand_gen(key, MODULUS, shapes))

    def share() -> tuple[list[bytes], list[bytes]]:
        numbers = options.threshold, options.shares
        return create_shares(seed, *numbers), create_shares(own, *numbers)

    seed_shares, key_shares = share()

    def join(shares: list[bytes], secret: bytes) -> None:
        assert combine_shares(random.sample(shares, options.threshold)) == secret

    wire = [ndarray_to_bytes(array) for array in parameters_mod(mask(), MODULUS)]
    told = {
        "version": version("flwr"),
        "mask a neighbour: expand and add, ms": 1e3 * median_seconds(mask, 25),
        "agree on a mask's key with a neighbour, ms": 1e3 * median_seconds(agree, 99),
        "share a device's two secrets, ms": 1e3 * median_seconds(share, options.repeats),
        "join the shares of a self-mask's seed, ms": 1e3
        * median_seconds(lambda: join(seed_shares, seed), options.repeats),
        "join the shares of a masking key, ms": 1e3
        * median_seconds(lambda: join(key_shares, own), options.repeats),
        "masked vector on the wire, bytes a number": sum(map(len, wire)) / options.length,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
