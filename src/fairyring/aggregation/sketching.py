"""Count sketches: a vector hashed into a small table from which each coordinate can be estimated."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from fairyring.aggregation.contract import (
    BoundStage,
    Message,
    MessageSpec,
    Properties,
    Stage,
    require_real,
)
from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError
from fairyring.core.words import below, signs


def count_sketch(
    rows: int, columns: int, *, estimate: Literal["mean", "median"] = "mean", failure: float = 1e-6
) -> Stage:
    """CountSketch (Charikar, Chen, Farach-Colton 2002), with hashes shared by the round.

    Each row of the table adds every coordinate, with a random sign, to one of `columns` cells. The sketches of clients add
    up to the sketch of the sum, also under masks. The estimate from one row is unbiased, with a mean squared error of at
    most `|x|^2 / columns` per coordinate; the mean of the rows divides that by `rows`. The median of the rows is unbiased
    too, and is robust to a few heavy coordinates, but not linear in the sketch.

    The hash cuts the vector into runs of `columns` coordinates and rotates each run by a random distance. Two coordinates
    of the same run never collide; two of different runs collide with probability `1 / columns`, which is all that the
    bound needs. A row costs one pass over the vector, without scattered writes.

    Args:
        rows, columns: shape of the table, each at least 1.
        estimate: ``"mean"`` or ``"median"`` of the rows.
        failure: allowed probability, over the round's signs, that some cell of a message exceeds `spec.linf`; with 0 the
            bound is guaranteed.

    Raises:
        PlanError: a setting is out of range.
    """
    rows, columns = whole_number("count_sketch rows", rows), whole_number("count_sketch columns", columns)
    if estimate not in ("mean", "median"):
        raise PlanError(
            "count_sketch estimate", given=repr(estimate), expected="'mean' or 'median'", do="Choose one."
        )
    if isinstance(failure, bool) or not isinstance(failure, int | float) or not 0 <= failure < 1:
        raise PlanError(
            "count_sketch failure",
            given=repr(failure),
            expected="a probability in [0, 1)",
            do="Leave it out.",
        )
    name = f"count_sketch({rows}, {columns}{'' if estimate == 'mean' else ', estimate=' + repr(estimate)})"

    def bind(spec: MessageSpec) -> BoundStage:
        require_real(spec, name)
        runs = -(-spec.dimension // columns)

        def rotations(round_key: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Key of the signs of each row `[rows]`, and the rotation of each run: int32 `[rows, runs]`."""
            distance = below(jax.random.fold_in(round_key, 0), jnp.full((rows * runs,), columns, jnp.int32))
            keys = jax.vmap(lambda row: jax.random.fold_in(round_key, row))(jnp.arange(1, rows + 1))
            return keys, distance.reshape(rows, runs)

        def rotated(run: jax.Array, distance: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(jnp.concatenate([run, run]), (columns - distance,), (columns,))

        def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
            x = jnp.pad(message.vector, (0, runs * columns - spec.dimension)).reshape(runs, columns)

            def row(_: None, shared: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
                key, distances = shared
                signed = x * signs(key, runs * columns).reshape(runs, columns)

                def add(table: jax.Array, run: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
                    return table + rotated(*run), None

                return None, jax.lax.scan(add, jnp.zeros((columns,), jnp.float32), (signed, distances))[0]

            return Message(jax.lax.scan(row, None, rotations(round_key))[1].reshape(-1), message.auxiliary)

        def decode(total: Message, round_key: jax.Array) -> Message:
            keys, distances = rotations(round_key)

            def row(shared: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
                cells, key, back = shared
                runs_back = jax.lax.map(lambda distance: rotated(cells, columns - distance), back)
                return runs_back.reshape(-1) * signs(key, runs * columns)

            estimates = jax.lax.map(row, (total.vector.reshape(rows, columns), keys, distances))
            combine = jnp.mean if estimate == "mean" else jnp.median
            return Message(combine(estimates, axis=0)[: spec.dimension], total.auxiliary)

        linf, risk = _cell_bound(spec, runs, rows * columns, failure)
        l2 = None if spec.l2 is None else spec.l2 * math.sqrt(rows * runs)
        out = spec.replace(
            dimension=rows * columns, l2=l2, linf=linf, linf_failure=risk, nonzero=None, summable=True
        )
        return BoundStage(out, encode, decode)

    linear = estimate == "mean"
    settings = (("rows", rows), ("columns", columns), ("estimate", estimate), ("failure", float(failure)))
    properties = Properties(unbiased=True, linear=linear, lossless=False)
    return Stage(name, bind, False, settings, properties, "count_sketch")


def _cell_bound(spec: MessageSpec, runs: int, cells: int, failure: float) -> tuple[float | None, float]:
    """The bound on a cell (a signed sum of one coordinate per run), and the probability that it is exceeded."""
    by_norm = math.inf if spec.l2 is None else spec.l2
    by_size = math.inf if spec.linf is None else spec.linf * math.sqrt(runs)
    norm = min(by_norm, by_size)  # of the coordinates that meet in one cell
    if math.isinf(norm):
        return None, 0.0
    inherited = spec.linf_failure if by_size < by_norm else 0.0
    certain = norm * math.sqrt(runs)
    probable = norm * math.sqrt(2 * math.log(2 * cells / failure)) if failure else math.inf
    return (probable, failure + inherited) if probable < certain else (certain, inherited)
