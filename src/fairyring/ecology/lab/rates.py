"""How often the events of a world happen: the first thing to ask of a new event."""

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.history import Evolution, Worker


def event_rates(run: Evolution) -> dict[str, np.ndarray]:
    """The mean value of each event in the next step, `[worlds]`: for a yes-or-no event, the share to whom it happens.

    Rewards are applied at the end of a step, so what a bacterium does in one step does not depend on its rewards. Therefore one
    step is made for each event in which that event alone has a reward of 1, and the reward received is its value. The run is not
    changed.

    Args:
        run: whose worlds to look at, in their present state; their policy is `q_learning`.

    Returns:
        For each event, the mean over the individuals that live through the step; NaN for a world without any.

    Raises:
        EcologyError: the worlds do not learn from rewards.
    """
    settings = run.settings
    mind = run.worlds[0].state.mind
    if settings.policy.reward is None or not isinstance(mind, dict) or "reward" not in mind:
        raise EcologyError(
            "policy",
            given=settings.policy.name,
            expected="q_learning()",
            do="Use World2 with its usual policy.",
        )
    worker, rates = Worker(settings, 0), {}
    for i, event in enumerate(settings.events):
        values = []
        for world in run.worlds:
            genomes = np.zeros_like(world.state.genomes)
            genomes[:, i] = 1
            after, (log,) = worker.run(settings, world.state._replace(genomes=genomes), world.key, 1)
            words = np.ascontiguousarray(log.born[0].astype("<u4")).view(np.uint8)
            born = np.unpackbits(words, bitorder="little").astype(bool)[: settings.capacity]
            alive = np.asarray(after.alive)
            alive = np.pad(alive, (0, settings.capacity - len(alive)))
            survived = np.flatnonzero(alive & ~np.pad(born, (0, settings.capacity - len(born))))
            received = np.asarray(after.mind["reward"], np.float64)[survived]
            values.append(float(received.mean()) if len(received) else np.nan)
        rates[event.name] = np.array(values)
    return rates
