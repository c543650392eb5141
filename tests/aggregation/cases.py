"""Every stage, and the chains people will use, with what the documentation promises of each."""

import math

import numpy as np

from fairyring.aggregation import (
    chain,
    clip,
    complete,
    count_sketch,
    quantize,
    random_k,
    rotate,
    secure_sum,
    top_k,
    weight_by_examples,
    weight_uniformly,
)
from tests.aggregation.battery import COHORT, DIMENSION, REAL, UNKNOWN, WHOLE, Case

FLOATS = 4 * DIMENSION  # bytes of the plain vector
AUXILIARIES = 4 * 3  # bytes of three side coordinates


def nothing(x: np.ndarray) -> float:
    return 1e-10 * float(x @ x) + 1e-14


def clipped(norm: float):
    return lambda x: x * min(1.0, norm / np.linalg.norm(x))


def rounding(step: float):
    """d values, each with a variance of at most step^2 / 4."""
    return lambda x: len(x) * step**2 / 4


def best(k: int):
    """The k largest of x, the others 0."""

    def keep(x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x) >= np.sort(np.abs(x))[-k], x, 0.0)

    return keep


def fixed_point(bits: int) -> float:
    return 1 / min(1 << 24, ((1 << bits) - 1) // COHORT)


def sub(n: float):
    return lambda n_examples: np.minimum(n_examples, n) / n


# 150 coordinates need blocks of 64 to be padded by at most 63: 192, each seeing a norm of at most 0.3.
ROTATED = 192
ROTATED_STEP = 0.3 * math.sqrt(2 * math.log(2 * ROTATED / 1e-6) / 64) / 511

STAGES = (
    Case(
        "weight_by_examples",
        weight_by_examples(),
        UNKNOWN,
        nothing,
        FLOATS + AUXILIARIES,
        weight=lambda n: n,
        worst=1e-6,
    ),
    Case(
        "weight_by_examples_bounded",
        weight_by_examples(bound=25),
        REAL,
        nothing,
        FLOATS + AUXILIARIES,
        weight=sub(25),
        worst=1e-6,
    ),
    Case(
        "weight_uniformly",
        weight_uniformly(),
        REAL,
        nothing,
        FLOATS + AUXILIARIES,
        weight=np.ones_like,
        worst=1e-6,
    ),
    Case("clip", clip(0.3), UNKNOWN, nothing, FLOATS + AUXILIARIES, ideal_of=clipped(0.3), worst=1e-6),
    Case("rotate", rotate(), REAL, nothing, 4 * ROTATED + AUXILIARIES, worst=1e-6),
    Case("rotate_128", rotate(block=128, failure=0), REAL, nothing, 4 * 256 + AUXILIARIES, worst=1e-6),
    Case(
        "quantize",
        quantize(),
        REAL,
        rounding(0.5 / 127),
        DIMENSION + AUXILIARIES,
        worst=0.5 / 127,
        exact=True,
    ),
    Case(
        "quantize_ternary",
        quantize(bits=2, bound=0.5),
        UNKNOWN.replace(linf=0.5),
        rounding(0.5),
        -(-DIMENSION * 2 // 8) + AUXILIARIES,
        worst=0.5,
        exact=True,
    ),
    Case(
        "quantize_16",
        quantize(bits=16),
        REAL,
        rounding(0.5 / 32767),
        2 * DIMENSION + AUXILIARIES,
        worst=0.5 / 32767,
        exact=True,
    ),
    Case(
        "random_k",
        random_k(40),
        REAL,
        lambda x: (math.ceil(DIMENSION / 40) - 1) * (x @ x),
        4 * 40 + AUXILIARIES,
        exact=True,
    ),
    Case(
        "count_sketch",
        count_sketch(3, 32),
        REAL,
        lambda x: DIMENSION * (x @ x) / (3 * 32),
        4 * 3 * 32 + AUXILIARIES,
    ),
    # The median's mean square is within the bound of one row.
    Case(
        "count_sketch_median",
        count_sketch(3, 32, estimate="median", failure=0),
        REAL,
        lambda x: DIMENSION * (x @ x) / 32,
        4 * 3 * 32 + AUXILIARIES,
    ),
    Case(
        "top_k",
        top_k(30),
        REAL,
        nothing,
        30 * (8 + 32) // 8 + AUXILIARIES,
        ideal_of=best(30),
        exact=True,
    ),
    Case(
        "secure_sum",
        secure_sum(),
        WHOLE,
        nothing,
        4 * (DIMENSION + 3),
        worst=0.0,
        auxiliary_step=fixed_point(32),
        exact=True,
    ),
    Case(
        "secure_sum_16",
        secure_sum(modulus_bits=16),
        WHOLE,
        nothing,
        2 * (DIMENSION + 3),
        worst=0.0,
        auxiliary_step=fixed_point(16),
        exact=True,
    ),
    Case(
        "secure_sum_19",
        secure_sum(modulus_bits=19),
        WHOLE,
        nothing,
        math.ceil(19 * (DIMENSION + 3) / 8),
        worst=0.0,
        auxiliary_step=fixed_point(19),
        exact=True,
    ),
)

CHAINS = (
    Case("plain", complete(chain()), UNKNOWN, nothing, FLOATS + AUXILIARIES, weight=np.ones_like, worst=1e-6),
    Case(
        "private",
        chain(clip(0.3), weight_by_examples(bound=50), rotate(), quantize(bits=10), secure_sum(24)),
        UNKNOWN,
        # At least a fifth of 40 examples of 50: dividing by the weight makes the noise that much larger.
        lambda x: ROTATED * ROTATED_STEP**2 / 4 / 0.16**2,
        3 * (ROTATED + 3),
        weight=sub(50),
        ideal_of=clipped(0.3),
        auxiliary_step=fixed_point(24),
    ),
    Case(
        "thin",
        chain(
            weight_uniformly(), rotate(), random_k(fraction=0.25), quantize(bits=8, bound=0.5), secure_sum(20)
        ),
        REAL,
        lambda x: 3 * (x @ x) + 48 * 16 * (0.5 / 127) ** 2 / 4,
        math.ceil(20 * (48 + 3) / 8),
        weight=np.ones_like,
        auxiliary_step=fixed_point(20),
    ),
    Case(
        "sketched",
        complete(chain(count_sketch(5, 20), quantize(bits=12), secure_sum())),
        REAL,
        lambda x: DIMENSION * ((x @ x) / 100 + (REAL.l2 * math.sqrt(8) / 2047) ** 2 / 4),
        4 * (100 + 3),
        weight=np.ones_like,
        auxiliary_step=fixed_point(32),
    ),
    Case(
        "sparse",
        chain(weight_by_examples(), top_k(30), quantize(bits=5, bound=20.0)),
        UNKNOWN,
        lambda x: 30 * (20.0 / 15) ** 2 / 4 / 8**2,
        math.ceil(30 * (8 + 5) / 8) + AUXILIARIES,
        weight=lambda n: n,
        ideal_of=best(30),
    ),
)

CASES = STAGES + CHAINS
