"""Why a model may not carry statistics of its batches from one call to the next."""

from typing import Never

from fairyring.core.errors import ModelError


def refuse_batch_normalisation(layer: str) -> Never:
    """Raise the error that explains why batch normalisation cannot be trained here."""
    raise ModelError(
        "model",
        given=f"batch normalisation ({layer})",
        expected="normalisation that does not depend on the batch",
        do=(
            "Its running statistics would carry one client's data to the others, outside clipping and noise, "
            "and the mean of the clients' means and variances is not that of the population, so the averaged "
            "model would be evaluated with wrong ones. Use GroupNorm or LayerNorm."
        ),
    )


def refuse_state(kind: str) -> Never:
    """Raise the error that explains why a model must be a pure function of its parameters."""
    raise ModelError(
        "model",
        given=f"state that changes from call to call ({kind})",
        expected="outputs that depend on parameters, input and key alone",
        do=(
            "State of this kind is neither averaged nor protected on its way from a device. "
            "Remove the layer that keeps it; for normalisation use GroupNorm or LayerNorm."
        ),
    )
