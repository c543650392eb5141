"""A module's parameters by their names in PyTorch, and the way back."""

from typing import Any

import numpy as np
import torch


class Weights:
    """The parameters of a module that are trained. Those with `requires_grad=False` are constants, as buffers are.

    Args:
        module: a copy that nobody changes.

    Attributes:
        trained: name -> tensor. A parameter that several layers share is here once, by its first name.
        owner: each name of a parameter -> its first name.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        named = dict(module.named_parameters())
        first = {id(parameter): name for name, parameter in named.items()}
        self.trained = {name: p for name, p in named.items() if p.requires_grad and p.is_floating_point()}
        self.owner = {
            name: first[id(parameter)] for name, parameter in module.named_parameters(remove_duplicate=False)
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The trained parameters' values, in their own types."""
        return {name: to_numpy(tensor) for name, tensor in self.trained.items()}

    def state_dict(self, params: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What `module.state_dict()` would be after training: trained parameters, constants and buffers.

        Args:
            params: name -> array.
        """
        tensors = {
            name: torch.from_numpy(np.array(params[name], np.float32)).to(own.dtype)
            for name, own in self.trained.items()
        }
        kept = {name: value.detach().clone() for name, value in self._module.state_dict().items()}
        return kept | {name: tensors[first] for name, first in self.owner.items() if first in tensors}


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy of a tensor's values; bfloat16, which NumPy lacks, in JAX's type."""
    tensor = tensor.detach().cpu().clone()
    if tensor.dtype == torch.bfloat16:
        import jax.numpy as jnp

        return tensor.float().numpy().astype(jnp.bfloat16)
    return tensor.numpy()
