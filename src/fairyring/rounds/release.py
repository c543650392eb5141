"""From a round's total to the next state: noise, the ledger's word, and only then the server's half."""

from typing import NamedTuple

import jax
import numpy as np

from fairyring.learning.server import ServerState
from fairyring.rounds.cohorts import RoundCohort
from fairyring.rounds.server_program import ServerProgram, counts
from fairyring.rounds.spending import RoundNoise
from fairyring.rounds.total import Total


class Released(NamedTuple):
    """What came of releasing a round's total.

    Attributes:
        state: the server's state after the round.
        side: `[weight, means...]` of the reports, float32.
        reported: how many reports are in the total.
        counts: whether anything was released; otherwise too few reported, and the state has not changed.
        vector: the noisy sum, where noise was added and something was released.
        mean: the mean that is decoded from it.
    """

    state: ServerState
    auxiliary: np.ndarray
    reported: int
    counts: bool
    vector: np.ndarray | None = None
    mean: np.ndarray | None = None


def release(
    program: ServerProgram,
    state: ServerState,
    cohort: RoundCohort,
    total: Total,
    noise: RoundNoise | None = None,
) -> Released:
    """Release a total: add the noise, note it in the ledger, and only then run the server half.

    Args:
        program: the server's half.
        state: before the round.
        cohort: of the round.
        total: of its cohort.
        noise: of the round, under a private plan.

    Raises:
        BudgetSpent, PrivacyError: the total may not be released, and is not.
    """
    plan = program.plan
    if noise is None:
        advanced = total.advanced or program.finish(state, total.parts, cohort.round)
        state, auxiliary, reported = advanced
        reporting = int(reported)
        return Released(state, np.asarray(auxiliary), reporting, bool(counts(plan, reporting)))
    sums = program.add_up(total.parts)
    clients, summed = int(sums.reported), total.summed
    if not counts(plan, clients):
        noise.cancel(seen=summed is not None and summed.seen)
        return Released(state, np.full(len(plan.auxiliaries), np.nan), clients, False)
    vector = noise.release(np.asarray(sums.message.vector), clients, shared=summed is not None)
    noisy = sums._replace(message=sums.message._replace(vector=vector))
    noisy = jax.device_put(noisy, program.processor)
    state, auxiliary, _, mean = program.finish_noisy(state, noisy, cohort.round)
    return Released(state, np.asarray(auxiliary), clients, True, vector, np.asarray(mean))
