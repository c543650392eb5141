"""Sentences on what a run does beside its noise: what leaves a client, who takes part, and what its record tells.

Each function gives its sentence, or None where that does not hold of the run.
"""

from fairyring.learning.cohort import Available, Fixed, InTurn, Poisson, Uniform, Weighted
from fairyring.privacy.participation import AtMost, FixedSize, PoissonSampled
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.sentences import ASSUMED, NOT_PRIVATE, PRIVATE, Sentence

# -- what leaves a client, and who sees it ------------------------------------------------------------------


def examples_stay(context: PrivacyContext) -> Sentence:
    return Sentence(
        PRIVATE,
        "Examples stay with their client",
        f"Only an update of {context.plan.update_layout.size:,} numbers and {len(context.plan.auxiliaries)} values beside it leave a client.",
    )


def updates_are_seen(context: PrivacyContext) -> Sentence | None:
    if context.plan.bound.spec.modulus_bits is not None:
        return None
    return Sentence(
        NOT_PRIVATE,
        "The server sees every update",
        "Updates are added in the clear. "
        + (
            "Each is made of noisy steps, which is what bounds what it tells."
            if context.by_example
            else "An update can be turned back into examples; a secure sum hides each one."
        ),
    )


def only_sums_are_seen(context: PrivacyContext) -> Sentence | None:
    if not context.masked or context.plan.terms is None:
        return None
    return Sentence(PRIVATE, "The server sees only sums", context.plan.terms.says())


def one_process(context: PrivacyContext) -> Sentence | None:
    if not context.masked or context.selection is not None:
        return None
    return Sentence(
        ASSUMED,
        "One process played all parties",
        "Every message of the masked protocol was made, sent and checked as between real devices; but the secrets of "
        "all of them were in this process.",
    )


def ideal_sum(context: PrivacyContext) -> Sentence | None:
    bits = context.plan.bound.spec.modulus_bits
    if bits is None or context.masked:
        return None
    return Sentence(
        NOT_PRIVATE,
        "The secure sum is simulated in its ideal form",
        f"Integers are added modulo 2^{bits} by this process, without the protocol's masks: "
        "the numbers are those of the protocol, the protection is not.",
    )


# -- who takes part, and who vanishes ---------------------------------------------------------------------------


def who_takes_part(context: PrivacyContext) -> Sentence:
    how = {
        Uniform: "drawn uniformly without replacement",
        Poisson: "drawn independently with one probability",
        Weighted: "drawn in proportion to a client attribute",
        Fixed: "those of a fixed list",
        InTurn: "taken in turn, in a random order that stays the same",
        Available: "drawn uniformly from those that are available at its hour, by a trace of each client, which rounds reveal",
    }[type(context.plan.rule)]
    if context.selection == "available":
        text = (
            "Devices came when they could, and those of a round were chosen among them with equal chances: the model learns more "
            "from devices that come often. The promise of privacy counts on no chance in that."
        )
        return Sentence(ASSUMED, "Who takes part", text)
    if context.selection is not None:
        text = f"The devices of a round were {how}; those of them that were not there in time are not in it."
        return Sentence(ASSUMED, "Who takes part", text)
    return Sentence(
        ASSUMED,
        "Who takes part",
        f"The clients of a round were {how}; real devices come when they are idle, charging and on free network.",
    )


def sampling_is_secret(context: PrivacyContext) -> Sentence | None:
    if context.protection is None or context.by_example:
        return None
    if not isinstance(context.protection.participation, PoissonSampled | FixedSize):
        return None
    return Sentence(
        ASSUMED,
        "Who took part is a secret",
        "The promise counts on sampling that nobody observes who sees the models. Here the seed decides it, and the "
        "server knows it; devices that choose themselves could not promise it.",
    )


def turns_are_kept(context: PrivacyContext) -> Sentence | None:
    participation = context.protection.participation if context.protection else None
    if not isinstance(participation, AtMost) or participation.separation == 1:
        return None
    return Sentence(
        ASSUMED,
        "Clients keep to their turn",
        f"The promise counts on no client being in two of {participation.separation:,} rounds that follow each other. "
        + (
            "Here the draw sees to it; of real devices somebody must."
            if context.selection is None
            else "Each device sees to that itself, by its own ledger and the limits that the plan's author signed."
        ),
    )


def who_vanishes(context: PrivacyContext) -> Sentence:
    if context.selection is not None:
        return Sentence(
            ASSUMED,
            "Who drops out",
            "Devices that were asked vanished as they would, not at random: the record of each round says how many did. The model learns "
            "less from those that vanish often.",
        )
    if isinstance(context.dropout, str):
        return Sentence(
            ASSUMED,
            "Who drops out",
            f"Each sampled client vanished with a probability of its own, the client attribute {context.dropout!r}. The model learns "
            "less from clients that vanish often, and rounds reveal which these are.",
        )
    if context.dropout:
        return Sentence(
            ASSUMED,
            "Who drops out",
            f"Each sampled client vanished with probability {context.dropout}, independently of its data.",
        )
    return Sentence(
        ASSUMED,
        "Nobody drops out",
        "Every sampled client reported; real devices vanish, and not at random.",
    )


def rounds_without_a_sum(context: PrivacyContext) -> Sentence | None:
    # Where who takes part is a secret a round of nobody is released as any other.
    empty = context.plan.secret_rate is None
    without = sum(one.aborted is not None or (empty and not one.clients) for one in context.rounds)
    if context.protection is None or not without:
        return None
    return Sentence(
        NOT_PRIVATE,
        "Rounds without a sum are seen",
        f"{without:,} of {len(context.rounds):,} rounds ended without a sum, since too few clients "
        + ("stayed" if context.plan.bound.spec.hides_nonfinite else "sent an update that was finite")
        + ". That they did is outside of the promise.",
    )


def updates_not_finite(context: PrivacyContext) -> Sentence | None:
    bad = sum(record.nonfinite for record in context.rounds)
    if context.protection is None or not bad:
        return None
    return Sentence(
        NOT_PRIVATE,
        "Updates that were not finite are counted",
        f"{bad:,} {'update' if bad == 1 else 'updates'} held a number that is not finite, and "
        + ("counted as zeros" if context.plan.bound.spec.hides_nonfinite else "did not count")
        + ". How many they were in each round is in the record, and outside of the promise.",
    )


def no_clip(context: PrivacyContext) -> Sentence | None:
    if context.plan.aggregation.bounds_influence:
        return None
    return Sentence(
        NOT_PRIVATE,
        "No bound on one client's influence",
        "Updates are not clipped: one client can move the model at will.",
    )


def clients_are_honest(context: PrivacyContext) -> Sentence:
    but = ", but the canaries" if context.canaries else ""
    return Sentence(ASSUMED, "Clients are honest", f"Every client{but} trained as told on its true examples.")


def training_examples_are_sound(context: PrivacyContext) -> Sentence | None:
    return _sound(context, "training")


def test_examples_are_sound(context: PrivacyContext) -> Sentence | None:
    return _sound(context, "test")


def _sound(context: PrivacyContext, name: str) -> Sentence | None:
    found = context.rows_checked.get(name)
    if found is None or found.complete:
        return None
    return Sentence(
        ASSUMED,
        f"The {name} examples are sound",
        f"Before training {found}; the others are taken on trust.",
    )


# -- what else is in the record -----------------------------------------------------------------------------------


def what_is_outside(context: PrivacyContext) -> Sentence | None:
    if context.protection is None or not context.outside:
        return None
    listed = "; ".join(str(one["what"]) for one in context.outside)
    where = "its folder, which its owner alone may read" if context.folder else "its record"
    return Sentence(
        NOT_PRIVATE, "What the run's own record tells", f"Outside of the promise are, in {where}: {listed}."
    )


def judged_on_clients(context: PrivacyContext) -> Sentence | None:
    if context.protection is None or not context.tested:
        return None
    chosen = ["when the run ended"] if context.stops else []
    chosen += ["which model is kept as the best"] if context.keeps_best else []
    stopped = f" So does {' and '.join(chosen)}, which was chosen by them." if chosen else ""
    return Sentence(
        NOT_PRIVATE,
        "Evaluations on held-out data are not covered",
        f"They have no noise, and tell of the clients whose data they are made on.{stopped}",
    )


def first_model_was_given(context: PrivacyContext) -> Sentence | None:
    if not context.init_given:
        return None
    if context.protection is None:
        return Sentence(
            ASSUMED, "The first model was given", "The run did not start from the plan's own first model."
        )
    return Sentence(
        ASSUMED,
        "The first model was given",
        "What it tells of those whose data it was made from is not counted here. If they are among these clients, both count together.",
    )


def states_of_clients(context: PrivacyContext) -> Sentence | None:
    if context.protection is None or context.states == "none":
        return None
    if context.by_example:
        return Sentence(
            PRIVATE,
            "The clients' own states are made of noisy steps",
            "They tell no more of an example than what was counted, each of one client's.",
        )
    if context.states == "kept":
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


def canaries_took_part(context: PrivacyContext) -> Sentence | None:
    if not context.canaries:
        return None
    held = context.protection is not None and context.audit is not None and context.audit["holds"]
    result = " What they gave away does not contradict the claim, and proves nothing." if held else ""
    return Sentence(
        ASSUMED,
        "Canaries took the places of clients",
        f"{context.canaries:,} of the clients were canaries of an audit: the model is for judging the plan.{result}",
    )
