"""The facts about a run that its privacy depends on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairyring.learning.plan import Plan
from fairyring.learning.protection import Protection
from fairyring.records.round_record import RoundRecord
from fairyring.task import RowsChecked


@dataclass(frozen=True)
class PrivacyContext:
    """The facts about a run that its privacy statement rests on.

    Attributes:
        plan: what ran.
        clients: how many clients have examples.
        sizes: the fewest and the most examples of a client that has any; None where only clients know.
        examples: how many all clients have together.
        dropout: probability that a sampled client vanishes, or the client attribute with each client's own.
        secure_sum: `ideal` or `protocol`.
        examined: how much of each population was checked, by name.
        tested: the model was evaluated on a test population.
        stops: the run may end early because of those evaluations.
        keeps_best: the model that is kept is chosen by those evaluations.
        init_given: the run started from a model that it was given.
        entropy_given: the noise is made from bytes that a caller gave.
        canaries: how many canaries take the places of clients.
        states: what became of the clients' own states: "none" (there are none), "kept" or "deleted".
        folder: the run is kept in a folder.
        outside: what the guarantee does not cover in that folder, as `artefacts.outside` has it.
        rounds: records of the rounds so far.
        spent: `RunSpending.summary` at the end; None before.
        audit: the result of an audit during the run; None without one.
        selection: of the devices of a service, how a round's are chosen: `plan`, or `available` for those that are there; None in a simulation.
    """

    plan: Plan
    clients: int
    sizes: tuple[int, int] | None
    examples: int = 0
    dropout: float | str = 0.0
    secure_sum: str = "ideal"
    rows_checked: Mapping[str, RowsChecked] = field(default_factory=dict)
    tested: bool = False
    stops: bool = False
    keeps_best: bool = False
    init_given: bool = False
    entropy_given: bool = False
    canaries: int = 0
    states: str = "none"
    folder: bool = False
    outside: Sequence[Mapping[str, Any]] = ()
    rounds: Sequence[RoundRecord] = ()
    spent: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    selection: str | None = None

    @property
    def protection(self) -> Protection | None:
        """The plan's privacy guarantee; None without a budget."""
        return self.plan.protection

    @property
    def by_example(self) -> bool:
        """Whether the guarantee is for every example, kept by noisy steps on the clients."""
        return self.protection is not None and self.protection.budget.unit == "example"

    @property
    def limited(self) -> Protection | None:
        """The plan's privacy guarantee, where its budget has a limit; None otherwise."""
        protection = self.protection
        return None if protection is None or math.isinf(protection.budget.epsilon) else protection

    @property
    def masked(self) -> bool:
        """Whether the masked protocol ran."""
        return self.secure_sum == "protocol" and self.plan.terms is not None

    @property
    def refuted(self) -> bool:
        """Whether an audit of the run contradicts its guarantee."""
        return contradicts(self.audit)

    @property
    def why_nothing(self) -> str | None:
        """Why there is no guarantee although there is a budget; None where there is one, or no budget."""
        if self.protection is None:
            return None
        if self.entropy_given:
            return "the bytes that all its noise is made from were given by the caller (entropy=), and whoever knows them can take it off"
        if self.refuted:
            return "the audit contradicts what was claimed"
        return None


def contradicts(audit: Mapping[str, Any] | None) -> bool:
    """Whether the result of an audit contradicts what was claimed."""
    results = () if audit is None else (audit, audit.get("mechanism") or {})
    return any(not result.get("holds", True) for result in results)
