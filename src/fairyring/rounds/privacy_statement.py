"""The privacy statement of a run, derived from what was run: record, report and terminal all take it from here."""

from fairyring.core.rounding import at_most
from fairyring.privacy.participation import relation_in
from fairyring.rounds import guarantee_sentences as covered
from fairyring.rounds import setting_sentences as setting
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.sentences import Says

# In the order in which they are said.
SENTENCES: tuple[Says, ...] = (
    setting.examples_stay,
    setting.updates_are_seen,
    setting.only_sums_are_seen,
    setting.one_process,
    setting.ideal_sum,
    covered.no_guarantee,
    covered.guarantee_is_void,
    covered.no_limit,
    covered.guarantee_holds,
    covered.whom_it_covers,
    covered.delta_is_large,
    covered.what_was_counted,
    covered.not_ended,
    covered.other_runs,
    covered.server_adds_noise,
    covered.noise_is_correlated,
    covered.clients_add_noise,
    covered.each_step_is_noisy,
    covered.who_is_in_a_batch,
    covered.before_training,
    covered.server_tops_up,
    covered.lost_in_noise,
    setting.no_clip,
    setting.who_takes_part,
    setting.sampling_is_secret,
    setting.turns_are_kept,
    setting.who_vanishes,
    setting.rounds_without_a_sum,
    setting.updates_not_finite,
    setting.training_examples_are_sound,
    setting.test_examples_are_sound,
    setting.clients_are_honest,
    setting.what_is_outside,
    setting.judged_on_clients,
    setting.first_model_was_given,
    setting.states_of_clients,
    setting.canaries_took_part,
)


def statement(context: PrivacyContext) -> list[dict[str, str]]:
    """Every sentence that holds of a run: each with a kind (assumed, private, not_private), a title and a text."""
    sentences = (says(context) for says in SENTENCES)
    return [sentence._asdict() for sentence in sentences if sentence is not None]


def guarantee(context: PrivacyContext) -> str | None:
    """The privacy guarantee in a line, with all it rests on: unit, neighbours, sampling, accountant; None without a budget."""
    if context.protection is None:
        return None
    if context.spent is None:
        return "What is spent is not yet known: the run has not ended."
    participation, budget = context.protection.participation, context.protection.budget
    relation = relation_in(participation, budget.unit)
    counted = (
        f"epsilon {at_most(context.spent['spent'])} at delta {budget.delta:.3g}, for one {budget.unit} (neighbours: {relation}), "
        f"assuming {context.spent['assumed']}; accounted by {context.spent['accountant']}."
    )
    why = context.why_nothing
    return counted if why is None else f"Nothing is promised: {why}. Counted was {counted}"


def two_epsilons(spent: float | None, claimed: float) -> str | None:
    """Why the epsilon of an audit made afterwards differs from what the run has spent; None where both are the same."""
    if spent is None or f"{spent:.3g}" == f"{claimed:.3g}":
        return None
    return (
        f"The audit ran the plan again: its own noise, its own clients that vanished, its own ledger. The epsilon it is held "
        f"against, {claimed:.3g}, is what that run spent; the run itself spent {spent:.3g}. Both together are more than either."
    )
