"""What a simulated run assumes, and what was not private about it: said in the summary and in the report."""

from collections.abc import Mapping

from fairyring.learning.cohort import Fixed, Poisson, Uniform, Weighted
from fairyring.learning.plan import Plan
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
    say(
        "not_private",
        "No differential privacy",
        "No noise was added: nothing bounds what the trained model tells about one client.",
    )
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
