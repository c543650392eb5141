"""From a round's total to the next state: noise, the ledger's word, and only then the server's half."""

from typing import NamedTuple

import jax
import numpy as np

from fairyring.learning.server import ServerState
from fairyring.rounds.draws import Draw
from fairyring.rounds.program import ServerProgram, counts
from fairyring.rounds.spending import RoundNoise
from fairyring.rounds.total import Total
from fairyring.rounds.watching import Watch


class Released(NamedTuple):
    """A round that is over.

    Attributes:
        state: the server's, after it.
        side: `[weight, means...]` of the reports.
        reported: how many reports are in it.
        counts: whether anything was released; else there were too few, and the state is as it was.
        mean: the decoded noisy mean, where noise was added and something was released.
    """

    state: ServerState
    side: np.ndarray
    reported: int
    counts: bool
    mean: np.ndarray | None = None


def release(
    program: ServerProgram,
    state: ServerState,
    draw: Draw,
    total: Total,
    noise: RoundNoise | None = None,
    watch: Watch | None = None,
) -> Released:
    """Release a total, and go on from it.

    Args:
        program: the server's half.
        state: before the round.
        draw: of the round.
        total: of its cohort.
        noise: of a private plan.
        watch: is shown what is released.

    Raises:
        BudgetSpent, PrivacyError: it may not be released; nothing is.
    """
    plan = program.plan
    if noise is None:
        state, side, reported = program.finish(state, total.parts, draw.round)
        heard = int(reported)
        return Released(state, np.asarray(side), heard, bool(counts(plan, heard)))
    sums = program.add_up(total.parts)
    clients, summed = int(sums.reported), total.summed
    if not counts(plan, clients):
        noise.cancel(seen=summed is not None and summed.seen)
        return Released(state, np.full(len(plan.sides), np.nan), clients, False)
    vector = noise.release(np.asarray(sums.message.vector), clients, shared=summed is not None)
    if watch is not None:
        watch.released(draw, vector, clients)
    noisy = sums._replace(message=sums.message._replace(vector=vector))
    noisy = jax.device_put(noisy, program.processor)
    state, side, _, mean = program.finish_noisy(state, noisy, draw.round)
    return Released(state, np.asarray(side), clients, True, np.asarray(mean))
