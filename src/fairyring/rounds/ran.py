"""What was run, as far as a run's privacy depends on it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairyring.learning.plan import Plan
from fairyring.learning.protection import Protection
from fairyring.task import RowsChecked


@dataclass(frozen=True)
class Ran:
    """What was run, as far as its privacy depends on it.

    Attributes:
        plan: what.
        sizes: number of examples of the fewest, and of the most, of a client that has any.
        clients: how many have examples.
        examples: how many they have together.
        dropout: probability that a sampled client vanishes.
        secure_sum: `ideal` or `protocol`.
        rows_checked: how many rows of each population were checked.
        tested: the model was evaluated on a test population.
        stops: it may end by those evaluations.
        entropy_given: the noise is made from bytes that the caller gave.
        canaries: how many take the places of clients.
        states: of clients' own states: "none", "kept" or "deleted".
        folder: it is kept in a folder.
        outside: what that folder holds outside of the promise, as `artefacts.outside` says.
        rounds: records of the rounds so far.
        spent: what `Spending.summary` says at the end, with what the accountant said; None before.
        audit: what canaries gave away; None without.
    """

    plan: Plan
    clients: int
    sizes: tuple[int, int]
    examples: int = 0
    dropout: float = 0.0
    secure_sum: str = "ideal"
    rows_checked: Mapping[str, RowsChecked] = field(default_factory=dict)
    tested: bool = False
    stops: bool = False
    entropy_given: bool = False
    canaries: int = 0
    states: str = "none"
    folder: bool = False
    outside: Sequence[Mapping[str, Any]] = ()
    rounds: Sequence[Mapping[str, Any]] = ()
    spent: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None

    @property
    def protection(self) -> Protection | None:
        """What is promised to every device; None without a budget."""
        return self.plan.protection

    @property
    def by_example(self) -> bool:
        """The promise is to every example, kept by noisy steps on the clients."""
        return self.protection is not None and self.protection.budget.unit == "example"

    @property
    def limited(self) -> Protection | None:
        """The same, where the budget has a limit."""
        found = self.protection
        return None if found is None or math.isinf(found.budget.epsilon) else found

    @property
    def masked(self) -> bool:
        """The masked protocol ran."""
        return self.secure_sum == "protocol" and self.plan.terms is not None

    @property
    def refuted(self) -> bool:
        """An audit of the run contradicts what it claims."""
        return contradicts(self.audit)

    @property
    def why_nothing(self) -> str | None:
        """Why nothing is promised to anybody although there is a budget; None where there is no such reason."""
        if self.protection is None:
            return None
        if self.entropy_given:
            return "the bytes that all its noise is made from were given by the caller (entropy=), and whoever knows them can take it off"
        if self.refuted:
            return "the audit contradicts what was claimed"
        return None


def contradicts(audit: Mapping[str, Any] | None) -> bool:
    """Whether what an audit found contradicts what was claimed."""
    audits = () if audit is None else (audit, audit.get("mechanism") or {})
    return any(not found.get("holds", True) for found in audits)
