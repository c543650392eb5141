"""Errors for models that carry state, such as statistics of batches, from one call to the next."""

from typing import Never

from fairyring.core.errors import ModelError


def refuse_batch_normalisation(layer: str, instead: str = "Use GroupNorm or LayerNorm.") -> Never:
    """Raise the error that explains why batch normalisation cannot be trained here, and what to write `instead`."""
    raise ModelError(
        "model",
        given=f"batch normalisation ({layer})",
        expected="normalisation that does not depend on the batch",
        do=(
            "Its running statistics would pass one client's data to the others without clipping or noise. "
            "And the mean of the clients' means and variances is not that of the population, so the averaged "
            f"model would be evaluated with wrong statistics. {instead}"
        ),
    )


def refuse_state(kind: str) -> Never:
    """Raise the error that explains why a model must be a pure function of its parameters."""
    raise ModelError(
        "model",
        given=f"state that changes from call to call ({kind})",
        expected="outputs that depend on parameters, input and key alone",
        do=(
            "Such state is neither averaged over clients nor protected when it leaves a device. "
            "Remove the layer that keeps it; for normalisation use GroupNorm or LayerNorm."
        ),
    )
