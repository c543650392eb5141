"""What a private run leaves behind, and for each thing whether the privacy guarantee covers it, and why.

Inside of the guarantee is what is computed from released sums alone, or does not depend on any client: it may be shown to
anybody. Outside is everything else. It is in the run folder for whoever made the run, and only they may read it.

A name is that of a file in the run folder; `file: key` for a key in a file with keys, with a dot for a key within a key;
`file: array` for an array in a file with arrays; and `file: @value` for a plain value beside arrays. `*` stands for anything.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from fairyring.records.layout import (
    AUDIT,
    CHECKPOINTS,
    INIT,
    LEDGER_FILES,
    MODEL,
    MODELS,
    PLAN,
    REPORT,
    SCORES,
    SEAL,
    SECRET,
    SIGNED,
    SOURCE,
    TRANSCRIPTS,
)

_CHECKPOINT = CHECKPOINTS + "/round-*.safetensors: "
_MODEL = MODELS + "/round-*.safetensors: "


class Artefact(NamedTuple):
    """Things of one kind in a run folder.

    Attributes:
        what: what they are, for a person.
        inside: whether the privacy guarantee covers them.
        why: the reason, in a sentence.
        names: of files, keys and arrays.
        only: what a run must have for them to be there: `states` of clients, `masks`, a `test` population, a model that it was given (`init`), or rounds
            left to run (`open`); empty for nothing.
    """

    what: str
    inside: bool
    why: str
    names: tuple[str, ...]
    only: str = ""


ARTEFACTS = (
    Artefact(
        "the secret that noise is made from",
        False,
        "Whoever has it can take the noise off every round. It is deleted when all rounds are done or the budget is spent.",
        (SECRET,),
        "open",
    ),
    Artefact(
        "the clients' own states",
        False,
        "A state is made of one client's gradients, which give examples away unless there is noise in every local step. They are "
        "deleted when all rounds are done or the budget is spent, unless they are asked for.",
        ("clients/states.bin", "clients/journal-*.bin"),
        "states",
    ),
    Artefact(
        "counts of each round",
        False,
        "They tell how many were asked, took part, vanished or sent no finite update, and how many examples they had; the "
        "size of the noise in a mean follows from how many took part.",
        (
            _CHECKPOINT + "@journal",
            _CHECKPOINT + "@journal_rows",
            *(
                f"metrics.jsonl: {key}"
                for key in (
                    *("clients", "sampled", "dropped", "nonfinite", "aborted.*", "canaries", "examples"),
                    *("bytes_up", "bytes_down", "noise", "snr", "noise_std.*", "lost_in_noise.*", "at_bound"),
                    *("clipped", "update_norm"),  # which a private plan's rounds never have
                )
            ),
        ),
    ),
    Artefact(
        "who took part how often",
        False,
        "It is counted client by client, without noise.",
        ("clients.safetensors: participation", _CHECKPOINT + "participation"),
    ),
    Artefact(
        "how many examples clients have",
        False,
        "It is told without noise: of each client, and of all in a few numbers.",
        ("clients.safetensors: examples", "population.json: *", "run.json: canaries"),
    ),
    Artefact(
        "evaluations on clients' own held-out data",
        False,
        "They are computed from those data without noise, and tell of them; so does whatever is chosen by them.",
        (
            "metrics.jsonl: test.*",
            "metrics.jsonl: tests.*",
            "clients.safetensors: test.*",
            "clients.safetensors: tests.*",
        ),
        "test",
    ),
    Artefact(
        "digests of the data",
        False,
        "A digest confirms data that were guessed: of somebody who knows all examples but one, what that one is.",
        (
            *("run.json: fingerprint", "run.json: fingerprints.population", "run.json: test"),
            *(_CHECKPOINT + "@fingerprint", _CHECKPOINT + "@digest"),
        ),
    ),
    Artefact(
        "the seed",
        False,
        "Whoever knows it knows who was asked in which round, where that is a secret.",
        ("run.json: seed",),
    ),
    Artefact(
        "what was spent, and the ledger",
        False,
        "Both follow from which rounds had a sum and, where clients add the noise, from how many of them stayed.",
        (
            *LEDGER_FILES,
            "metrics.jsonl: epsilon",
            "run.json: audit.claimed",
            _CHECKPOINT + "@ledger.*",
            *(
                f"run.json: privacy.{key}"
                for key in (
                    "spent",
                    "accountant",
                    "assumed",
                    "statement",
                    "why_nothing",
                    "releases",
                    "reservations",
                    "lost",
                    "ledger",
                )
            ),
        ),
    ),
    Artefact(
        "the model that it was given",
        False,
        "What it tells of those it was made from is not counted here.",
        (INIT + ": *", "run.json: init"),
        "init",
    ),
    Artefact(
        "how far it got",
        False,
        "A run ends early when its budget is spent, or by evaluations on held-out data, and the best model is chosen by them.",
        (
            "run.json: status",
            "run.json: stopped_by",
            "metrics.jsonl: round",
            _CHECKPOINT + "@round",
            _MODEL + "@round",
        ),
    ),
    Artefact(
        "times",
        False,
        "How long something takes depends on how much the clients have to compute.",
        (
            "metrics.jsonl: seconds",
            "run.json: seconds",
            "run.json: compile_seconds",
            _CHECKPOINT + "@seconds",
        ),
    ),
    Artefact(
        "transcripts of masked sums",
        False,
        "They list the keys of those who took part and of those who vanished, the same keys in every round; and where the "
        "server adds the noise a digest of the sum before it, which confirms a sum that was guessed.",
        (
            TRANSCRIPTS + "/round-*.msgpack",
            SIGNED,
            SEAL,
            "run.json: history.*",
            _CHECKPOINT + "@history",
        ),
        "masks",
    ),
    Artefact(
        "what the run says of itself",
        False,
        "Its sentences name numbers of clients and of examples.",
        ("run.json: assumptions", "run.json: outside", "run.json: privacy.warnings"),
    ),
    Artefact(
        "the report, once it is written",
        False,
        "It shows all the rest.",
        (REPORT,),
    ),
    Artefact(
        "audits",
        False,
        "Those made afterwards run the plan again over the same people, which releases more of them than was counted, and show "
        "the examples that were sought. A check of the mechanism itself looks at clients' vectors and sums without noise.",
        (
            AUDIT + ": *",
            "run.json: audit.mechanism",
            _CHECKPOINT + "@audit.*",
            *(
                f"{SCORES}: {array}"
                for array in (
                    "scores",
                    "truth",
                    "bare",
                    "protected",
                    "nearest",
                    "blind",
                    "roc_false",
                    "roc_true",
                )
            ),
        ),
    ),
    Artefact(
        "what a crash leaves",
        False,
        "It is the beginning of another file. A process that is killed can also leave masked vectors of a round behind, in a "
        "folder fairyring-* in the system's temporary folder, for its owner alone.",
        ("*.part",),
        "open",
    ),
    Artefact(
        "the models",
        True,
        "They are computed from noisy sums, and so is all that the server keeps for the next round.",
        (_CHECKPOINT + "server/*", _MODEL + "params/*", _MODEL + "@digest"),
    ),
    Artefact(
        "means of training",
        True,
        "They are means of noisy sums, cut to the range a value can have.",
        ("metrics.jsonl: loss", "metrics.jsonl: metrics.*"),
    ),
    Artefact(
        "what canaries gave away during the run",
        True,
        "It is computed from the releases, and from where canaries took part, who are nobody.",
        (
            "metrics.jsonl: empirical_epsilon",
            "metrics.jsonl: empirical_epsilon_lower",
            *(
                f"run.json: audit.{key}"
                for key in (
                    "canaries",
                    "empirical",
                    "lower",
                    "confidence",
                    "delta",
                    "mean",
                    "std",
                    "holds",
                    "statement",
                )
            ),
        ),
    ),
    Artefact(
        "masked sums",
        True,
        "They are kept only where the clients' own noise is in them.",
        (TRANSCRIPTS + "/round-*.sum",),
        "masks",
    ),
    Artefact(
        "what the server received of one client",
        True,
        "Its vector is under masks, which are used once and kept nowhere.",
        ("exhibit.safetensors: received",),
        "masks",
    ),
    Artefact(
        "the plan, what it ran on and who runs it",
        True,
        "It has nothing to do with any client's data.",
        (
            PLAN,
            MODEL,
            SOURCE,
            "lock",
            *(
                f"run.json: {key}"
                for key in (
                    *("fairyring", "rounds", "dropout", "fingerprints.plan", "fingerprints.terms", "form"),
                    *("code.*", "versions.*", "machine.*"),
                    *("started", "secure_sum", "entropy", "keep.*"),
                )
            ),
            *(
                f"run.json: privacy.{key}"
                for key in (
                    *("epsilon", "delta", "rounds", "unit", "relation", "sampling", "participation"),
                    *("mechanism", "multiplier", "bands", "shares", "steps", "inflation"),
                )
            ),
        ),
    ),
)


def outside(has: Collection[str]) -> list[dict[str, Any]]:
    """What a private run leaves behind that its guarantee does not cover, for its record: `what`, `why` and `names` of each.

    Args:
        has: which of `states`, `masks`, `test`, `init` and `open` the run has.
    """
    return [
        {"what": one.what, "why": one.why, "names": list(one.names)}
        for one in ARTEFACTS
        if not one.inside and (not one.only or one.only in has)
    ]
