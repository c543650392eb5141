"""How many coordinates a sparsifying stage keeps."""

from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError


def check_count(stage: str, k: int | None, fraction: float | None) -> None:
    """Raise `PlanError` unless exactly one of `k` (an integer, at least 1) and `fraction` (in `(0, 1]`) is given."""
    if (k is None) == (fraction is None):
        raise PlanError(
            stage,
            given="both k and fraction" if k is not None else "neither k nor fraction",
            expected="exactly one of them",
            do=f"Write {stage}(fraction=0.1) or {stage}(k=1000).",
        )
    if k is not None:
        whole_number(f"{stage} k", k)
    elif isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise PlanError(
            f"{stage} fraction",
            given=repr(fraction),
            expected="a number in (0, 1]",
            do="Choose a fraction such as 0.1.",
        )


def count_of(stage: str, k: int | None, fraction: float | None, dimension: int) -> int:
    """How many of `dimension` coordinates are kept; raises `PlanError` if `k` is larger than `dimension`."""
    if k is None:
        return max(1, round((fraction or 0.0) * dimension))
    if k > dimension:
        raise PlanError(
            f"{stage} k", given=k, expected=f"at most {dimension}, the number of coordinates", do="Use fewer."
        )
    return k
