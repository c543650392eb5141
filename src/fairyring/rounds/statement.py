"""What a run says of its own privacy, made from what was run: the one place from which record, report and terminal take it."""

from fairyring.core.rounding import at_most
from fairyring.privacy.participation import relation_in
from fairyring.rounds.ran import Ran
from fairyring.rounds.sentences import SENTENCES


def statement(ran: Ran) -> list[dict[str, str]]:
    """All that is to be said of a run, each with a kind (assumed, private, not_private), a title and a text."""
    found = (says(ran) for says in SENTENCES)
    return [said._asdict() for said in found if said is not None]


def guarantee(ran: Ran) -> str | None:
    """What was spent in a line, with all it rests on: unit, neighbours, sampling, accountant; None without a budget."""
    if ran.protection is None:
        return None
    if ran.spent is None:
        return "What is spent is not yet known: the run has not ended."
    participation, budget = ran.protection.participation, ran.protection.budget
    relation = relation_in(participation, budget.unit)
    counted = (
        f"epsilon {at_most(ran.spent['spent'])} at delta {budget.delta:.3g}, for one {budget.unit} (neighbours: {relation}), "
        f"assuming {ran.spent['assumed']}; accounted by {ran.spent['accountant']}."
    )
    why = ran.why_nothing
    return counted if why is None else f"Nothing is promised: {why}. Counted was {counted}"


def two_epsilons(spent: float | None, claimed: float) -> str | None:
    """Why an audit made afterwards claims another epsilon than its run has spent; None where both are the same."""
    if spent is None or f"{spent:.3g}" == f"{claimed:.3g}":
        return None
    return (
        f"The audit ran the plan again: its own noise, its own clients that vanished, its own ledger. The epsilon it is held "
        f"against, {claimed:.3g}, is what that run spent; the run itself spent {spent:.3g}. Both together are more than either."
    )
