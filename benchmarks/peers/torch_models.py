"""The four models in PyTorch, for both peers."""

from itertools import pairwise

import torch
from torch import nn
from work import Work


def model(work: Work) -> nn.Sequential:
    """The model of `work`, taking examples as `tensors` gives them."""
    network = _model(work)
    work.same_model(sum(p.numel() for p in network.parameters()))
    return network


def _model(work: Work) -> nn.Sequential:
    if work.convolutional:
        height, width, channels = work.shape
        flat = 64 * ((height - 4) // 2) * ((width - 4) // 2)
        return nn.Sequential(
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(flat, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, work.classes),
        )
    widths = (work.shape[0], *work.hidden)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], work.classes))


def tensors(work: Work, examples, labels) -> tuple[torch.Tensor, torch.Tensor]:
    """Examples and labels as tensors; images channels first, as PyTorch wants them."""
    x = torch.from_numpy(examples)
    if work.convolutional:
        x = x.movedim(-1, -3).contiguous()
    return x, torch.from_numpy(labels).long()


@torch.no_grad()
def loss_of(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean cross-entropy with dropout off."""
    network.eval()
    value = nn.functional.cross_entropy(network(x), y).item()
    network.train()
    return value
