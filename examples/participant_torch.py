"""Four hospitals train with PyTorch as they always do, and only a masked update leaves each of them.

Nothing of their training is compiled. What the plan says of updates (clip, rounding, masks) is done to theirs as to any other.

    fairyring up examples/participant_torch.py     a service and the four of them on this machine
"""

import numpy as np
import optax
import torch

import fairyring as fr
from fairyring.device import Fitted, Participant

population, test = fr.load("digits", clients=4, alpha=10.0)


def network() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )


def hospital(client: int) -> Participant:
    rows = population.client(client)
    x = torch.tensor(np.asarray(rows["x"]).reshape(-1, 64) / 255.0, dtype=torch.float32)
    y = torch.tensor(np.asarray(rows["y"]), dtype=torch.int64)

    def fit(model: dict[str, np.ndarray], round: int) -> Fitted:
        net = network()
        net.load_state_dict({name: torch.tensor(array) for name, array in model.items()})
        optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
        losses, right = [], 0
        for batch in torch.randperm(len(x)).split(8):
            outputs = net(x[batch])
            loss = torch.nn.functional.cross_entropy(outputs, y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(batch))
            right += int((outputs.argmax(1) == y[batch]).sum())
        state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
        return Fitted(state, len(x), sum(losses) / len(x), {"accuracy": right / len(x)})

    return Participant(fit)


plan = fr.Plan(
    fr.classification(network()),
    local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=16),  # of participants without their own
    cohort=4,
    aggregation=fr.chain(fr.clip(5.0), fr.quantize(bits=12), fr.secure_sum(modulus_bits=24)),
)
participants = [hospital(client) for client in range(4)]
rounds = 10

if __name__ == "__main__":
    from fairyring.cli import main

    raise SystemExit(main(["up", __file__]))
