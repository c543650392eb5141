"""Random rotation: spreads a vector evenly over its coordinates before it is quantised or subsampled."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.aggregation.contract import BoundStage, Message, MessageSpec, Properties, Stage, require_real
from fairyring.core.errors import PlanError
from fairyring.core.words import signs

_LARGEST = 1 << 18


def rotate(block: int | None = None, *, failure: float = 1e-6) -> Stage:
    """Random Hadamard rotation, block by block (Suresh et al. 2017; Kairouz, Liu, Steinke 2021).

    The vector is padded with zeros to whole blocks, signs are flipped at random (shared by the round), and each block is
    multiplied by a normalised Hadamard matrix. Norms are kept. Coordinates become nearly equal in magnitude, so a
    quantiser's range can be far smaller: about `|x| sqrt(2 ln(2 D / failure) / block)` instead of `|x|`. Up to the order of
    coordinates within a block, the matrix is the Kronecker product of two Hadamard matrices, applied as two matrix
    products. The decoded vector differs from the original only by float32 rounding.

    Args:
        block: length of a block, a power of two from 2 to 2^18. Larger blocks spread better and pad more. By
            default the largest up to 4096 that pads by at most a sixteenth, or 63 coordinates.
        failure: allowed probability, over the round's signs, that some coordinate of a message exceeds the bound stated
            as `spec.linf` (a quantiser clamps it). With 0 the stated bound is guaranteed, but hardly better than none.

    Raises:
        PlanError: `block` is not such a power of two, or `failure` is not in `[0, 1)`.
    """
    if block is not None and (
        isinstance(block, bool)
        or not isinstance(block, int)
        or not 2 <= block <= _LARGEST
        or block & (block - 1)
    ):
        raise PlanError(
            "rotate block",
            given=repr(block),
            expected="a power of two from 2 to 2^18",
            do="Choose 1024 or 4096, or leave it out.",
        )
    if isinstance(failure, bool) or not isinstance(failure, int | float) or not 0 <= failure < 1:
        raise PlanError(
            "rotate failure",
            given=repr(failure),
            expected="a probability in [0, 1)",
            do="Leave it out, or give 0 for the guaranteed bound.",
        )
    name = f"rotate({'' if block is None else f'block={block}'})"

    def bind(spec: MessageSpec) -> BoundStage:
        require_real(spec, name)
        length = block or _fitting(spec.dimension)
        padded = -(-spec.dimension // length) * length
        outer = 1 << ((length.bit_length() - 1) // 2)
        factors = (outer, length // outer)

        def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
            x = jnp.pad(message.vector, (0, padded - spec.dimension)) * signs(round_key, padded)
            return Message(_hadamard(x, *factors), message.auxiliary)

        def decode(total: Message, round_key: jax.Array) -> Message:
            x = _hadamard(total.vector, *reversed(factors)) * signs(round_key, padded)
            return Message(x[: spec.dimension], total.auxiliary)

        linf, risk = _spread(spec, length, padded, failure)
        out = spec.replace(dimension=padded, linf=linf, linf_failure=risk, nonzero=None, summable=True)
        return BoundStage(out, encode, decode)

    properties = Properties(unbiased=True, linear=True, lossless=True)
    return Stage(name, bind, False, (("block", block), ("failure", float(failure))), properties, "rotate")


def _fitting(dimension: int) -> int:
    """The largest power of two up to 4096 whose padding is at most a sixteenth, or 63 coordinates."""
    length = 4096
    while length > 2 and -dimension % length > max(dimension // 16, 63):
        length //= 2
    while length > 2 and length // 2 >= dimension:
        length //= 2
    return length


def _spread(spec: MessageSpec, block: int, padded: int, failure: float) -> tuple[float | None, float]:
    """The bound on a rotated coordinate, and the probability that it is exceeded."""
    # The norm of one block: a rotated coordinate depends only on its block.
    norms = [math.inf if spec.l2 is None else spec.l2]
    norms.append(math.inf if spec.linf is None else spec.linf * math.sqrt(block))
    norm = min(norms)
    if math.isinf(norm):
        return None, 0.0
    inherited = spec.linf_failure if norms[1] < norms[0] else 0.0
    if failure == 0:
        return norm, inherited
    # Hoeffding's inequality for a sum with independent signs, and a union bound over all coordinates.
    probable = norm * math.sqrt(2 * math.log(2 * padded / failure) / block)
    return (probable, failure + inherited) if probable < norm else (norm, inherited)


def _hadamard(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """Each block of `x`, as a matrix `[rows, columns]`, becomes `H X^T H`, `[columns, rows]`.

    With the factors swapped it is its own inverse. Leaving out the second transposition leaves the coordinates in another
    order and saves a pass over memory. With factors up to 64, both products are compute-bound.
    """
    y = _product(x.reshape(-1, columns), columns)
    y = _product(jnp.swapaxes(y.reshape(-1, rows, columns), 1, 2).reshape(-1, rows), rows)
    return y.reshape(-1)


def _product(x: jax.Array, order: int) -> jax.Array:
    """Each row of `x` times the Hadamard matrix, in full precision, so that norms are kept on accelerators too."""
    return jnp.matmul(x, _matrix(order), precision=jax.lax.Precision.HIGHEST)


def _matrix(order: int) -> np.ndarray:
    """Sylvester's symmetric, orthogonal Hadamard matrix: float32 `[order, order]`."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < order:
        matrix = np.kron(np.asarray([[1, 1], [1, -1]], np.float32), matrix)
    return matrix / np.float32(math.sqrt(order))
