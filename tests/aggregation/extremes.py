"""Float32 numbers in no good faith: any bits, and those that overflow or vanish on the way."""

import numpy as np

MOST = float(np.finfo(np.float32).max)
SPECIAL = np.array(
    [0, -0.0, 1, -1, 1e-45, 1.2e-38, 1e-30, 1e30, -1e30, 3e38, -3e38, MOST, np.inf, -np.inf, np.nan],
    np.float32,
)


def any_bits(dice: np.random.Generator, *shape: int) -> np.ndarray:
    """Any float32 at all."""
    return dice.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)


def any_vectors(dice: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Vectors `[count, dimension]`, six kinds in turn."""
    vectors = any_bits(dice, count, dimension)
    for i in range(count):
        match i % 6:
            case 1:
                vectors[i] = dice.choice(SPECIAL, dimension)
            case 2:  # a block beside something smaller: a rotation makes it overflow
                vectors[i] = dice.choice([1e30, 1.0, 0.0])
                vectors[i, : dice.integers(1, dimension + 1)] = dice.choice([3e38, -3e38, MOST])
            case 3:
                vectors[i] = MOST * dice.choice([-1, 1], dimension)
            case 4:  # one alone
                vectors[i] = dice.normal(size=dimension)
                vectors[i, dice.integers(dimension)] = dice.choice(SPECIAL)
            case 5:
                vectors[i] = 10.0 ** dice.uniform(-45, 38.5) * dice.choice([-1, 1], dimension)
    return vectors


def any_auxiliaries(dice: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Side values `[count, length]`."""
    auxiliaries = any_bits(dice, count, length)
    auxiliaries[::2] = dice.choice(SPECIAL, auxiliaries[::2].shape)
    return auxiliaries
