"""The sentences a run says of its own privacy: each a small function that knows when it holds."""

from collections.abc import Callable
from typing import NamedTuple

from fairyring.core.rounding import at_most
from fairyring.learning.cohort import Fixed, InTurn, Poisson, Uniform, Weighted
from fairyring.privacy.participation import AtMost, FixedSize, PoissonSampled, relation_in, sampling_in
from fairyring.rounds.ran import Ran

ASSUMED, PRIVATE, NOT_PRIVATE = "assumed", "private", "not_private"


class Sentence(NamedTuple):
    """A statement about a run: assumed, private or not_private."""

    kind: str
    title: str
    text: str


Says = Callable[[Ran], Sentence | None]


# -- what leaves a client, and who sees it ------------------------------------------------------------------


def examples_stay(ran: Ran) -> Sentence:
    return Sentence(
        PRIVATE,
        "Examples stay with their client",
        f"Only an update of {ran.plan.update_layout.size:,} numbers and {len(ran.plan.sides)} values beside it leave a client.",
    )


def updates_are_seen(ran: Ran) -> Sentence | None:
    if ran.plan.bound.signal.modulus_bits is not None:
        return None
    return Sentence(
        NOT_PRIVATE,
        "The server sees every update",
        "Updates are added in the clear. "
        + (
            "Each is made of noisy steps, which is what bounds what it tells."
            if ran.by_example
            else "An update can be turned back into examples; a secure sum hides each one."
        ),
    )


def only_sums_are_seen(ran: Ran) -> Sentence | None:
    if not ran.masked or ran.plan.terms is None:
        return None
    return Sentence(PRIVATE, "The server sees only sums", ran.plan.terms.says())


def one_process(ran: Ran) -> Sentence | None:
    if not ran.masked:
        return None
    return Sentence(
        ASSUMED,
        "One process played all parties",
        "Every message of the masked protocol was made, sent and checked as between real devices; but the secrets of "
        "all of them were in this process.",
    )


def ideal_sum(ran: Ran) -> Sentence | None:
    bits = ran.plan.bound.signal.modulus_bits
    if bits is None or ran.masked:
        return None
    return Sentence(
        NOT_PRIVATE,
        "The secure sum is simulated in its ideal form",
        f"Integers are added modulo 2^{bits} by this process, without the protocol's masks: "
        "the numbers are those of the protocol, the protection is not.",
    )


# -- what is promised, or why nothing is ----------------------------------------------------------------------


def no_promise(ran: Ran) -> Sentence | None:
    if ran.protection is not None:
        return None
    return Sentence(
        NOT_PRIVATE,
        "No differential privacy",
        "No noise was added: nothing bounds what the trained model tells about one client.",
    )


def nothing_is_promised(ran: Ran) -> Sentence | None:
    why = ran.why_nothing
    if why is None:
        return None
    return Sentence(NOT_PRIVATE, "Nothing is promised", f"{why[0].upper()}{why[1:]}.")


def no_limit(ran: Ran) -> Sentence | None:
    if ran.protection is None or ran.limited is not None:
        return None
    return Sentence(
        NOT_PRIVATE,
        "No limit on what is spent",
        f"Noise was added and what it spends is counted, at delta {ran.protection.budget.delta:g}; no budget stopped it.",
    )


def promise(ran: Ran) -> Sentence | None:
    if ran.limited is None or ran.why_nothing is not None:
        return None
    budget, participation = ran.limited.budget, ran.limited.participation
    spent = budget.epsilon if ran.spent is None else ran.spent["spent"]
    of = "" if ran.spent is None else f" (of the {budget.epsilon:g} that were promised)"
    whom, covered = (
        "all data of one device",
        "the update, a weight by examples, the loss and every metric of training",
    )
    if ran.by_example:
        whom = "one example (who has several is not covered as a whole)"
        covered = "every local step: the gradient of each example, its loss and every metric of training"
    sampling = sampling_in(participation, 1, "example") if ran.by_example else participation.sampling
    return Sentence(
        PRIVATE,
        f"Differential privacy for every {budget.unit}",
        f"All models together are ({at_most(spent)}, {budget.delta:g})-differentially private{of} with respect to {whom}; "
        f"neighbouring: {relation_in(participation, budget.unit)}; {sampling}. Noise covers {covered}; the ledger says what "
        "was spent.",
    )


def whom_it_covers(ran: Ran) -> Sentence | None:
    if ran.protection is None or ran.by_example:
        return None
    low, high = ran.sizes
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return Sentence(
        ASSUMED,
        "A client is a device",
        f"There were {ran.clients:,} clients with {each} examples each. The promise is to each client with all of its "
        "examples; a person whose data lie with several clients is promised less. That a client has examples at all, without "
        "which it is never asked, is not covered.",
    )


def delta_is_large(ran: Ran) -> Sentence | None:
    if ran.protection is None:
        return None
    delta, many, units, one = ran.protection.budget.delta, ran.clients, "clients", "all data of one client"
    if ran.by_example:
        many, units, one = ran.examples, "examples", "one of them"
    if delta * many < 1:
        return None
    return Sentence(
        NOT_PRIVATE,
        f"Delta allows whole {units} to be exposed",
        f"With delta {delta:g} and {many:,} {units}, a run that publishes {one} would keep this promise. Choose delta well below "
        f"1 / {many:,}.",
    )


def what_was_counted(ran: Ran) -> Sentence | None:
    if ran.spent is None:
        return None
    reserved, released = ran.spent["reservations"], ran.spent["releases"]
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
        f"{'reservation' if reserved == 1 else 'reservations'}, added up by {ran.spent['accountant']}.{open_}",
    )


def not_ended(ran: Ran) -> Sentence | None:
    if ran.protection is None or ran.spent is not None:
        return None
    return Sentence(
        ASSUMED,
        "This was written before the first round",
        "What has been spent since is in the ledger: fairyring ledger lists it.",
    )


def other_runs(ran: Ran) -> Sentence | None:
    if ran.protection is None:
        return None
    return Sentence(
        ASSUMED,
        "This run alone",
        "Another run over the same people, an audit that runs the plan again, or a choice among several runs adds to what "
        "was spent. Each run has a ledger of its own; fairyring ledger RUN ANOTHER adds them up.",
    )


# -- the noise, and who is trusted with it ----------------------------------------------------------------------


def server_adds_noise(ran: Ran) -> Sentence | None:
    if ran.protection is None or ran.protection.release.shares or ran.by_example:
        return None
    return Sentence(
        ASSUMED,
        "The server adds the noise",
        "It sees each round's sum before that, and is trusted to forget it, and to keep what the noise was made from to "
        "itself."
        + (
            " Transcripts name a digest of the sum without noise: they stay with it, too."
            if ran.masked
            else ""
        ),
    )


def noise_is_correlated(ran: Ran) -> Sentence | None:
    if ran.protection is None or ran.protection.release.mechanism != "correlated":
        return None
    return Sentence(
        ASSUMED,
        "Noise of all rounds hangs together",
        "Later rounds take back noise of earlier ones: whoever learns what it is made from before the run has ended takes it "
        "off every round.",
    )


def clients_add_noise(ran: Ran) -> Sentence | None:
    protection = ran.protection
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


def each_step_is_noisy(ran: Ran) -> Sentence | None:
    if not ran.by_example or ran.protection is None:
        return None
    return Sentence(
        PRIVATE,
        "Each client adds the noise itself",
        "What leaves a client is made of noisy steps alone: no server need be trusted with an example. Every round counts "
        f"{ran.protection.release.steps:,} of them, as if every client took part in every round it may. Loss and metrics of training "
        "come of the same sums: with few examples in a batch they are mostly noise, and how much is not recorded.",
    )


def who_is_in_a_batch(ran: Ran) -> Sentence | None:
    if not ran.by_example or ran.protection is None:
        return None
    if not isinstance(ran.protection.participation, PoissonSampled):
        return None
    return Sentence(
        ASSUMED,
        "Who is in a batch is a secret",
        "Coins and noise come from the run's entropy, which stays with the client. Here one process had that of all.",
    )


def before_training(ran: Ran) -> Sentence | None:
    if not ran.by_example:
        return None
    return Sentence(
        NOT_PRIVATE,
        "What was done to the examples before training",
        "What is read off examples before the first step, such as means to standardise by, and how many a client has, are "
        "outside of the promise.",
    )


def server_tops_up(ran: Ran) -> Sentence | None:
    noise = ran.plan.bound.signal.noise
    if ran.protection is None or noise is None or not noise.top_up:
        return None
    return Sentence(
        ASSUMED,
        "The server tops up",
        "Where too few clients stay, it adds the shares of noise that are missing, and is trusted to. It sees such a sum "
        "before that, and is trusted to forget it."
        + (" Transcripts name a digest of it: they stay with the server, too." if ran.masked else ""),
    )


def lost_in_noise(ran: Ran) -> Sentence | None:
    lost: dict[str, int] = {}
    for record in ran.rounds:
        for name in record.get("lost_in_noise", ()):
            lost[name] = lost.get(name, 0) + 1
    if not lost:
        return None
    listed = ", ".join(
        f"{name.replace('_', ' ')} in {n:,} of {len(ran.rounds):,} rounds" for name, n in lost.items()
    )
    return Sentence(
        ASSUMED,
        "Some means of training say nothing",
        f"Noise as wide as the range itself is in the mean of: {listed}. The numbers recorded for them are noise.",
    )


# -- who takes part, and who vanishes ---------------------------------------------------------------------------


def who_takes_part(ran: Ran) -> Sentence:
    how = {
        Uniform: "drawn uniformly without replacement",
        Poisson: "drawn independently with one probability",
        Weighted: "drawn in proportion to a client attribute",
        Fixed: "those of a fixed list",
        InTurn: "taken in turn, in a random order that stays the same",
    }[type(ran.plan.rule)]
    return Sentence(
        ASSUMED,
        "Who takes part",
        f"The clients of a round were {how}; real devices come when they are idle, charging and on free network.",
    )


def sampling_is_secret(ran: Ran) -> Sentence | None:
    if ran.protection is None or ran.by_example:
        return None
    if not isinstance(ran.protection.participation, PoissonSampled | FixedSize):
        return None
    return Sentence(
        ASSUMED,
        "Who took part is a secret",
        "The promise counts on sampling that nobody observes who sees the models. Here the seed decides it, and the "
        "server knows it; devices that choose themselves could not promise it.",
    )


def turns_are_kept(ran: Ran) -> Sentence | None:
    participation = ran.protection.participation if ran.protection else None
    if not isinstance(participation, AtMost) or participation.separation == 1:
        return None
    return Sentence(
        ASSUMED,
        "Clients keep to their turn",
        f"The promise counts on no client being in two of {participation.separation:,} rounds that follow each other. Here the "
        "draw sees to it; of real devices somebody must.",
    )


def who_vanishes(ran: Ran) -> Sentence:
    if ran.dropout:
        return Sentence(
            ASSUMED,
            "Who drops out",
            f"Each sampled client vanished with probability {ran.dropout}, independently of its data.",
        )
    return Sentence(
        ASSUMED,
        "Nobody drops out",
        "Every sampled client reported; real devices vanish, and not at random.",
    )


def rounds_without_a_sum(ran: Ran) -> Sentence | None:
    # Where who takes part is a secret a round of nobody is released as any other.
    empty = ran.plan.secret_rate is None
    without = sum("aborted" in one or (empty and one.get("clients") == 0) for one in ran.rounds)
    if ran.protection is None or not without:
        return None
    return Sentence(
        NOT_PRIVATE,
        "Rounds without a sum are seen",
        f"{without:,} of {len(ran.rounds):,} rounds ended without a sum, since too few clients "
        + ("stayed" if ran.plan.bound.signal.discreet else "sent an update that was finite")
        + ". That they did is outside of the promise.",
    )


def updates_not_finite(ran: Ran) -> Sentence | None:
    bad = sum(int(record.get("nonfinite", 0)) for record in ran.rounds)
    if ran.protection is None or not bad:
        return None
    return Sentence(
        NOT_PRIVATE,
        "Updates that were not finite are counted",
        f"{bad:,} {'update' if bad == 1 else 'updates'} held a number that is not finite, and "
        + ("counted as zeros" if ran.plan.bound.signal.discreet else "did not count")
        + ". How many they were in each round is in the record, and outside of the promise.",
    )


def no_clip(ran: Ran) -> Sentence | None:
    if ran.plan.aggregation.bounds_influence:
        return None
    return Sentence(
        NOT_PRIVATE,
        "No bound on one client's influence",
        "Updates are not clipped: one client can move the model at will.",
    )


def clients_are_honest(ran: Ran) -> Sentence:
    but = ", but the canaries" if ran.canaries else ""
    return Sentence(ASSUMED, "Clients are honest", f"Every client{but} trained as told on its true examples.")


def training_examples_are_sound(ran: Ran) -> Sentence | None:
    return _sound(ran, "training")


def test_examples_are_sound(ran: Ran) -> Sentence | None:
    return _sound(ran, "test")


def _sound(ran: Ran, name: str) -> Sentence | None:
    found = ran.rows_checked.get(name)
    if found is None or found.complete:
        return None
    return Sentence(
        ASSUMED,
        f"The {name} examples are sound",
        f"Before training {found}; the others are taken on trust.",
    )


# -- what else is in the record -----------------------------------------------------------------------------------


def what_is_outside(ran: Ran) -> Sentence | None:
    if ran.protection is None or not ran.outside:
        return None
    listed = "; ".join(str(one["what"]) for one in ran.outside)
    where = "its folder, which its owner alone may read" if ran.folder else "its record"
    return Sentence(
        NOT_PRIVATE, "What the run's own record tells", f"Outside of the promise are, in {where}: {listed}."
    )


def judged_on_clients(ran: Ran) -> Sentence | None:
    if ran.protection is None or not ran.tested:
        return None
    stopped = " So does when the run ended, which was chosen by them." if ran.stops else ""
    return Sentence(
        NOT_PRIVATE,
        "Evaluations on held-out data are not covered",
        f"They have no noise, and tell of the clients whose data they are made on.{stopped}",
    )


def states_of_clients(ran: Ran) -> Sentence | None:
    if ran.protection is None or ran.states == "none":
        return None
    if ran.by_example:
        return Sentence(
            PRIVATE,
            "The clients' own states are made of noisy steps",
            "They tell no more of an example than what was counted, each of one client's.",
        )
    if ran.states == "kept":
        return Sentence(
            NOT_PRIVATE,
            "The clients' own states are kept",
            "They give examples away, and lie in this run's folder without noise: keep_client_states=True asked for it, or "
            "the run is not over.",
        )
    return Sentence(
        ASSUMED,
        "The clients' own states were on this disk",
        "They give examples away. They were deleted when the run was over; what a disk keeps of deleted files is not ours to say.",
    )


def canaries_took_part(ran: Ran) -> Sentence | None:
    if not ran.canaries:
        return None
    held = ran.protection is not None and ran.audit is not None and ran.audit["holds"]
    found = " What they gave away does not contradict the claim, and proves nothing." if held else ""
    return Sentence(
        ASSUMED,
        "Canaries took the places of clients",
        f"{ran.canaries:,} of the clients were canaries of an audit: the model is for judging the plan.{found}",
    )


SENTENCES: tuple[Says, ...] = (
    examples_stay,
    updates_are_seen,
    only_sums_are_seen,
    one_process,
    ideal_sum,
    no_promise,
    nothing_is_promised,
    no_limit,
    promise,
    whom_it_covers,
    delta_is_large,
    what_was_counted,
    not_ended,
    other_runs,
    server_adds_noise,
    noise_is_correlated,
    clients_add_noise,
    each_step_is_noisy,
    who_is_in_a_batch,
    before_training,
    server_tops_up,
    lost_in_noise,
    no_clip,
    who_takes_part,
    sampling_is_secret,
    turns_are_kept,
    who_vanishes,
    rounds_without_a_sum,
    updates_not_finite,
    training_examples_are_sound,
    test_examples_are_sound,
    clients_are_honest,
    what_is_outside,
    judged_on_clients,
    states_of_clients,
    canaries_took_part,
)
