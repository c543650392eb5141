"""What a simulated run assumes, and what was not private about it: said in the summary and in the report."""

import math
from collections.abc import Callable, Mapping

from fairyring.learning.cohort import Fixed, InTurn, Poisson, Uniform, Weighted
from fairyring.learning.plan import Plan
from fairyring.privacy.participation import (
    AnyParticipation,
    FixedSize,
    PoissonSampled,
    relation_in,
    sampling_in,
)
from fairyring.task.examine import Examined


def assumptions(
    plan: Plan, dropout: float, examined: Mapping[str, Examined], secure_sum: str = "ideal"
) -> list[dict[str, str]]:
    """Statements about a plan in simulation, each with a title, a text and a kind (assumed, private, not_private)."""
    signal = plan.bound.signal
    said = []

    def say(kind: str, title: str, text: str) -> None:
        said.append({"kind": kind, "title": title, "text": text})

    say(
        "private",
        "Examples stay with their client",
        f"Only an update of {plan.update_layout.size:,} numbers and {len(plan.sides)} values beside it leave a client.",
    )
    if signal.modulus_bits is None:
        say(
            "not_private",
            "The server sees every update",
            "Updates are added in the clear. An update can be turned back into examples; a secure sum hides each one.",
        )
    elif secure_sum == "protocol" and plan.terms is not None:
        say("private", "The server sees only sums", plan.terms.says())
        say(
            "assumed",
            "One process played all parties",
            "Every message of the masked protocol was made, sent and checked as between real devices; but the secrets of "
            "all of them were in this process.",
        )
    else:
        say(
            "not_private",
            "The secure sum is simulated in its ideal form",
            f"Integers are added modulo 2^{signal.modulus_bits} by this process, without the protocol's masks: "
            "the numbers are those of the protocol, the protection is not.",
        )
    _differential(plan, say)
    if "clip" not in plan.aggregation.name:
        say(
            "not_private",
            "No bound on one client's influence",
            "Updates are not clipped: one client can move the model at will.",
        )
    rule = plan.rule
    how = {
        Uniform: "drawn uniformly without replacement",
        Poisson: "drawn independently with one probability",
        Weighted: "drawn in proportion to a client attribute",
        Fixed: "those of a fixed list",
        InTurn: "taken in turn, in a random order that stays the same",
    }[type(rule)]
    say(
        "assumed",
        "Who takes part",
        f"The clients of a round were {how}; real devices come when they are idle, charging and on free network.",
    )
    if dropout:
        say(
            "assumed",
            "Who drops out",
            f"Each sampled client vanished with probability {dropout}, independently of its data.",
        )
    else:
        say(
            "assumed",
            "Nobody drops out",
            "Every sampled client reported; real devices vanish, and not at random.",
        )
    for name, found in examined.items():
        if not found.whole:
            say(
                "assumed",
                f"The {name} examples are sound",
                f"Before training {found}; the others are taken on trust.",
            )
    say("assumed", "Clients are honest", "Every client trained as told on its true examples.")
    return said


def _differential(plan: Plan, say: Callable[[str, str, str], None]) -> None:
    """What a plan's budget promises, and on what it rests."""
    protection = plan.protection
    if protection is None:
        say(
            "not_private",
            "No differential privacy",
            "No noise was added: nothing bounds what the trained model tells about one client.",
        )
        return
    budget, participation = protection.budget, protection.participation
    if math.isinf(budget.epsilon):
        say(
            "not_private",
            "No limit on what is spent",
            f"Noise was added and what it spends is counted, at delta {budget.delta:g}; no budget stopped it.",
        )
    else:
        each = budget.unit == "example"
        what = "one example (who has several is not covered as a whole)" if each else "all data of one device"
        covered = (
            "every local step: the gradient of each example, its weight, its loss and every metric of training"
            if each
            else "the update, the weight, the loss and every metric of training"
        )
        say(
            "private",
            f"Differential privacy for every {budget.unit}",
            f"All models together are ({budget.epsilon:g}, {budget.delta:g})-differentially private with respect to "
            f"{what}; neighbouring: {relation_in(participation, budget.unit)}; "
            f"{sampling_in(participation, 1, budget.unit) if each else participation.sampling}. Noise covers {covered}; the "
            "ledger says what was spent.",
        )
    if budget.unit == "example":
        _by_steps(protection.release.steps, participation, say)
        return
    if not protection.release.shares:
        say(
            "assumed",
            "The server adds the noise",
            "It sees each round's sum before that, and is trusted to forget it, and to keep what the noise was made from "
            "to itself. Transcripts of masked sums name a digest of the sum without noise: they stay with it, too.",
        )
    elif plan.bound.signal.noise is not None and plan.bound.signal.noise.top_up:
        say(
            "assumed",
            "The server tops up",
            "Where too few clients stay, it adds the shares of noise that are missing.",
        )
    if isinstance(participation, PoissonSampled | FixedSize):
        say(
            "assumed",
            "Who took part is a secret",
            "The promise counts on sampling that nobody observes who sees the models. Here the seed decides it, and the "
            "server knows it; devices that choose themselves could not promise it.",
        )
    say(
        "not_private",
        "What the run's own record tells",
        "How many clients took part, vanished or sent no finite update, how many examples they had, and evaluations on the clients' own held-out "
        "data, are in this record and outside of the promise.",
    )


def _by_steps(steps: int, participation: AnyParticipation, say: Callable[[str, str, str], None]) -> None:
    """On what a promise to every example rests."""
    say(
        "private",
        "Each client adds the noise itself",
        "What leaves a client is made of noisy steps alone: no server need be trusted with an example. Every round counts "
        f"{steps} of them, as if every client took part in every round it may.",
    )
    if isinstance(participation, PoissonSampled):
        say(
            "assumed",
            "Who is in a batch is a secret",
            "Coins and noise come from the run's entropy, which stays with the client. Here one process had that of all.",
        )
    say(
        "not_private",
        "What the run's own record tells",
        "How many examples each client has, who took part or vanished, and evaluations on the clients' own held-out data, are "
        "in this record and outside of the promise. What a client reads off its own examples before training, such as means to "
        "standardise by, is too.",
    )
