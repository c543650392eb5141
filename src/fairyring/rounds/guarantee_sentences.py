"""Sentences on the privacy guarantee of a run: what it is, what it rests on, and who adds the noise.

Each function gives its sentence, or None where that does not hold of the run.
"""

from collections import Counter

from fairyring.core.rounding import at_most
from fairyring.privacy.participation import PoissonSampled, relation_in, sampling_in
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.sentences import ASSUMED, NOT_PRIVATE, PRIVATE, Sentence

# -- what is guaranteed, or why nothing is ----------------------------------------------------------------------


def no_guarantee(context: PrivacyContext) -> Sentence | None:
    if context.protection is not None:
        return None
    return Sentence(
        NOT_PRIVATE,
        "No differential privacy",
        "No noise was added: nothing bounds what the trained model tells about one client.",
    )


def guarantee_is_void(context: PrivacyContext) -> Sentence | None:
    why = context.why_nothing
    if why is None:
        return None
    return Sentence(NOT_PRIVATE, "Nothing is promised", f"{why[0].upper()}{why[1:]}.")


def no_limit(context: PrivacyContext) -> Sentence | None:
    if context.protection is None or context.limited is not None:
        return None
    return Sentence(
        NOT_PRIVATE,
        "No limit on what is spent",
        f"Noise was added and what it spends is counted, at delta {context.protection.budget.delta:g}; no budget stopped it.",
    )


def guarantee_holds(context: PrivacyContext) -> Sentence | None:
    if context.limited is None or context.why_nothing is not None:
        return None
    budget, participation = context.limited.budget, context.limited.participation
    spent = budget.epsilon if context.spent is None else context.spent["spent"]
    of = "" if context.spent is None else f" (of the {budget.epsilon:g} that were promised)"
    whom, covered = (
        "all data of one device",
        "the update, a weight by examples, the loss and every metric of training",
    )
    if context.by_example:
        whom = "one example (who has several is not covered as a whole)"
        covered = "every local step: the gradient of each example, its loss and every metric of training"
    sampling = sampling_in(participation, 1, "example") if context.by_example else participation.sampling
    return Sentence(
        PRIVATE,
        f"Differential privacy for every {budget.unit}",
        f"All models together are ({at_most(spent)}, {budget.delta:g})-differentially private{of} with respect to {whom}; "
        f"neighbouring: {relation_in(participation, budget.unit)}; {sampling}. Noise covers {covered}; the ledger says what "
        "was spent.",
    )


def whom_it_covers(context: PrivacyContext) -> Sentence | None:
    if context.protection is None or context.by_example:
        return None
    each = "so many examples each as only they know"
    if context.sizes is not None:
        low, high = context.sizes
        each = (f"{low:,}" if low == high else f"{low:,} to {high:,}") + " examples each"
    return Sentence(
        ASSUMED,
        "A client is a device",
        f"There were {context.clients:,} clients with {each}. The promise is to each client with all of its "
        "examples; a person whose data lie with several clients is promised less. That a client has examples at all, without "
        "which it is never asked, is not covered.",
    )


def delta_is_large(context: PrivacyContext) -> Sentence | None:
    if context.protection is None:
        return None
    delta, many, units, one = (
        context.protection.budget.delta,
        context.clients,
        "clients",
        "all data of one client",
    )
    if context.by_example:
        many, units, one = context.examples, "examples", "one of them"
    if delta * many < 1:
        return None
    return Sentence(
        NOT_PRIVATE,
        f"Delta allows whole {units} to be exposed",
        f"With delta {delta:g} and {many:,} {units}, a run that publishes {one} would keep this promise. Choose delta well below "
        f"1 / {many:,}.",
    )


def what_was_counted(context: PrivacyContext) -> Sentence | None:
    if context.spent is None:
        return None
    reserved, released = context.spent["reservations"], context.spent["releases"]
    left = reserved - released
    open_ = (
        f" {left:,} of them had no sum released or were cut off; the ledger says what each counts as."
        if left
        else ""
    )
    return Sentence(
        ASSUMED,
        "What was counted",
        f"{released:,} {'release' if released == 1 else 'releases'} of {reserved:,} "
        f"{'reservation' if reserved == 1 else 'reservations'}, added up by {context.spent['accountant']}.{open_}",
    )


def not_ended(context: PrivacyContext) -> Sentence | None:
    if context.protection is None or context.spent is not None:
        return None
    return Sentence(
        ASSUMED,
        "This was written before the first round",
        "What has been spent since is in the ledger: fairyring ledger lists it.",
    )


def other_runs(context: PrivacyContext) -> Sentence | None:
    if context.protection is None:
        return None
    return Sentence(
        ASSUMED,
        "This run alone",
        "Another run over the same people, an audit that runs the plan again, or a choice among several runs adds to what "
        "was spent. Each run has a ledger of its own; fairyring ledger RUN ANOTHER adds them up.",
    )


# -- the noise, and who is trusted with it ----------------------------------------------------------------------


def server_adds_noise(context: PrivacyContext) -> Sentence | None:
    if context.protection is None or context.protection.release.shares or context.by_example:
        return None
    return Sentence(
        ASSUMED,
        "The server adds the noise",
        "It sees each round's sum before that, and is trusted to forget it, and to keep what the noise was made from to "
        "itself."
        + (
            " Transcripts name a digest of the sum without noise: they stay with it, too."
            if context.masked
            else ""
        ),
    )


def noise_is_correlated(context: PrivacyContext) -> Sentence | None:
    if context.protection is None or context.protection.release.mechanism != "correlated":
        return None
    return Sentence(
        ASSUMED,
        "Noise of all rounds hangs together",
        "Later rounds take back noise of earlier ones: whoever learns what it is made from before the run has ended takes it "
        "off every round.",
    )


def clients_add_noise(context: PrivacyContext) -> Sentence | None:
    protection = context.protection
    if protection is None or not protection.release.shares:
        return None
    shares = protection.release.shares
    return Sentence(
        ASSUMED,
        "The clients add the noise",
        f"It was reckoned for the shares of {shares:,} honest {'client' if shares == 1 else 'clients'} in a sum; of those "
        f"that were asked up to {protection.adversarial_rate:.0%} may send no noise, or tell their own, and all of them may be in "
        "it. What more clients added was counted.",
    )


def each_step_is_noisy(context: PrivacyContext) -> Sentence | None:
    if not context.by_example or context.protection is None:
        return None
    return Sentence(
        PRIVATE,
        "Each client adds the noise itself",
        "What leaves a client is made of noisy steps alone: no server need be trusted with an example. Every round counts "
        f"{context.protection.release.steps:,} of them, as if every client took part in every round it may. Loss and metrics of training "
        "come of the same sums: with few examples in a batch they are mostly noise, and how much is not recorded.",
    )


def who_is_in_a_batch(context: PrivacyContext) -> Sentence | None:
    if not context.by_example or context.protection is None:
        return None
    if not isinstance(context.protection.participation, PoissonSampled):
        return None
    return Sentence(
        ASSUMED,
        "Who is in a batch is a secret",
        "Coins and noise come from the run's entropy, which stays with the client. Here one process had that of all."
        if context.selection is None
        else "Coins and noise are made of each device's own secret, which stays on it.",
    )


def before_training(context: PrivacyContext) -> Sentence | None:
    if not context.by_example:
        return None
    return Sentence(
        NOT_PRIVATE,
        "What was done to the examples before training",
        "What is read off examples before the first step, such as means to standardise by, and how many a client has, are "
        "outside of the promise.",
    )


def server_tops_up(context: PrivacyContext) -> Sentence | None:
    noise = context.plan.bound.spec.noise
    if context.protection is None or noise is None or not noise.top_up:
        return None
    return Sentence(
        ASSUMED,
        "The server tops up",
        "Where too few clients stay, it adds the shares of noise that are missing, and is trusted to. It sees such a sum "
        "before that, and is trusted to forget it."
        + (" Transcripts name a digest of it: they stay with the server, too." if context.masked else ""),
    )


def lost_in_noise(context: PrivacyContext) -> Sentence | None:
    lost = Counter(
        column
        for record in context.rounds
        if record.lost_in_noise is not None
        for column, is_lost in record.lost_in_noise.columns().items()
        if is_lost
    )
    if not lost:
        return None
    listed = ", ".join(
        f"{column.removeprefix('metrics.').replace('_', ' ')} in {n:,} of {len(context.rounds):,} rounds"
        for column, n in lost.items()
    )
    return Sentence(
        ASSUMED,
        "Some means of training say nothing",
        f"Noise as wide as the range itself is in the mean of: {listed}. The numbers recorded for them are noise.",
    )
