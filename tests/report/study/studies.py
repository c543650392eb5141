"""Small `study.json`s, written by hand: what a study of each kind holds, with numbers one can look for."""

import hashlib
import json
from pathlib import Path
from typing import Any

SETTINGS = {
    "width": 32,
    "capacity": 128,
    "level_low": 0.02,
    "level_high": 0.2,
    "senses": ["food", "change"],
    "policy": "tables",
    "control": "none",
    "retention": 0.5,
}
FACTS: dict[str, Any] = {
    "rho": 0.9155,
    "seed": 11,
    "versions": {"fairyring": "0.1.0", "jax": "1.2.3", "numpy": "2.3.4"},
    "machine": {"cores": 2, "processor": "x86_64"},
    "seconds": {"study": 61.5},
}
FIRST = {"evolved": 0, "scrambled": 1000, "blind": 2000, "no-inheritance": 3000}


def run_hash(name: str) -> str:
    """A hash as a run of that name might have."""
    return hashlib.sha256(name.encode()).hexdigest()


def interval(mean: float, low: float, high: float, size: int = 4) -> dict[str, Any]:
    return {"estimate": mean, "low": low, "high": high, "confidence": 0.95, "size": size, "method": "BCa"}


def criterion(
    name: str, value: float, least: float | None, most: float | None, *, strict: bool = True
) -> Any:
    met = (least is None or value > least) and (most is None or value < most)
    return {
        "name": name, "estimate": value + 0.25, "compared": value, "least": least, "most": most, "strict": strict,
        "met": met,
    }  # fmt: skip


def decision(index: float, contrast: float, blind: float) -> dict[str, Any]:
    criteria = [
        criterion("99% lower bound of the index beside the controls", index, 1.537, None),
        criterion("99% lower bound of the index", index, 1.25, None),
        criterion("99% lower bound of the tumble contrast", contrast, 0.1, None),
        criterion("index without the sensor", blind, 0.9, 1.1, strict=False),
    ]
    yes = all(one["met"] for one in criteria)
    return {
        "question": "chemotaxis in this world", "criteria": criteria, "units": 128, "controls": 4, "stated_error": 0.2,
        "verdict": yes, "why": "Yes." if yes else "No.",
    }  # fmt: skip


def arm(name: str, indices: list[float | None]) -> dict[str, Any]:
    """Worlds with these indices in the lab; nobody lives in one without."""
    worlds = []
    for i, index in enumerate(indices):
        row: dict[str, Any] = {
            "world": FIRST[name] + i, "population": 700.0 + i, "immigrants": 0.0, "tumbling": 0.3, "emission": 0.1,
            "waiting": 0.0, "lifetime": 311.0, "generation_length": 222.0, "generations": 25, "individuals": 9000,
            "living": 690 + i,
        }  # fmt: skip
        if index is not None:
            row["assay"] = {
                "index": index, "index_without_sensor": 1.0 + 0.01 * i, "contrast": 0.3 * (index - 1), "drift": 0.1,
                "level_contrast": 0.2 if i % 2 else -0.2,
                "probabilities": [[0.1, 0.2, 0.3], [0.4, None, 0.6], [0.7, 0.8, 0.9]],
            }  # fmt: skip
        worlds.append(row)
    curve = {"every": 10, "worlds": [[400, 500 + i, 600] for i in range(len(indices))]}
    return {"hash": run_hash(name), "control": name, "worlds": worlds, "population": curve}


def world1(**changes: Any) -> dict[str, Any]:
    """Of four evolved worlds two pass, one fails at its contrast, one died out."""
    made: dict[str, list[Any]] = {
        "evolved": [
            decision(2.7182, 0.41, 1.04),
            decision(2.2, 0.33, 0.97),
            decision(1.9, 0.0123, 1.0),
            None,
        ],
        "scrambled": [decision(1.1, 0.01 * i, 1.0) for i in range(4)],
        "blind": [decision(0.8, -0.1, 1.0) for _ in range(4)],
    }
    whole = {
        "question": "chemotaxis in this configuration",
        "criteria": [
            criterion("exact one-sided p", 0.0286, None, 0.001),
            criterion("Cliff's delta", 1.0, 0.8, None, strict=False),
        ],
        "units": 3, "controls": 4, "stated_error": 0.001, "verdict": False, "why": "No: p 0.0286.",
    }  # fmt: skip
    return {
        "study": "v1",
        "settings": SETTINGS,
        "steps": 2000,
        **FACTS,
        "arms": {
            "evolved": arm("evolved", [3.1, 2.5, 2.1, None]),
            "scrambled": arm("scrambled", [1.2, 1.3, 1.25, 1.4]),
            "blind": arm("blind", [0.9, 0.8, 1.1, 1.0]),
        },
        "decisions": {
            "worlds": made,
            "passed": {name: sum(bool(d and d["verdict"]) for d in of) for name, of in made.items()},
            "configuration": whole,
            "against_blind": whole,
            "blind_sensing_again": 1,
            "errors": {
                "passed": 0, "worlds": 4, "rate": 0.0, "upper": 0.527, "confidence": 0.95, "stated": 0.25,
            },
        },
    } | changes  # fmt: skip


def reward(
    name: str, mean: tuple[float, float, float], positive: int, p: float, want: int | None, how: str | None
) -> dict[str, Any]:
    signs = {
        "positive": positive, "negative": 4 - positive, "zero": 0, "fraction": positive / 4, "p": p, "low": 0.0,
        "high": 1.0,
    }  # fmt: skip
    return {
        "name": name, "mean": interval(*mean, size=12), "signs": signs, "p_holm": p, "expected_sign": want, "agreement": how,
        "null_holds": mean[1] <= 0 <= mean[2] if name == "dummy" else None,
    }  # fmt: skip


def paired(name: str, differences: list[float], p: float) -> dict[str, Any]:
    mean = sum(differences) / len(differences)
    return {
        "name": name, "ours": [1 + d for d in differences], "theirs": [1.0] * len(differences),
        "mean": interval(mean, mean - 0.2, mean + 0.2), "p": p, "p_holm": p,
    }  # fmt: skip


def without_heredity(table: list[dict[str, Any]]) -> dict[str, Any]:
    """Worlds whose rewards have no sign; of the evolved ones only those for emitting are elsewhere."""
    return {
        "worlds": [[0.1, 0.2, -0.1, 0.1], [-0.1, -0.2, 0.2, 0.1], [0.2, 0.1, -0.1, 0.1], [-0.2, -0.1, 0.1, -0.1]],
        "table": [reward(row["name"], (0.0, -0.2, 0.2), 2, 1.0, None, None) for row in table],
        "apart": [
            {
                "name": row["name"], "ours": [0.5, 0.6, 0.4], "theirs": [0.1, -0.1, 0.2, -0.2], "delta": 1.0,
                "p_two_sided": 0.02, "method": "exact", "p_holm": 0.04 if row["name"] == "emitted" else 0.5,
            }
            for row in table
        ],
    }  # fmt: skip


def world2(*, dummy: tuple[float, float, float] = (0.01, -0.1, 0.12), viable: bool = True) -> dict[str, Any]:
    """World 1's decisions; eating decided positive, emitting the other way than in the lecture."""
    found = world1(study="v2", settings=SETTINGS | {"policy": "Q-learning, heredity of retention"})
    found["arms"]["no-inheritance"] = arm("no-inheritance", [1.0, 1.1, 1.05, 0.95])
    found["decisions"]["worlds"]["no-inheritance"] = [decision(1.0, 0.0, 1.0) for _ in range(4)]
    found["decisions"]["passed"]["no-inheritance"] = 0
    found["decisions"]["passed_beside_no-inheritance"] = {
        "evolved": 3,
        "scrambled": 1,
        "blind": 0,
        "no-inheritance": 0,
    }
    found["decisions"]["against_no-inheritance"] = found["decisions"]["against_blind"]
    table = [
        reward("eat", (0.52, 0.31, 0.66), 4, 0.002, 1, "agrees"),
        reward("emitted", (0.21, 0.11, 0.33), 4, 0.004, -1, "disagrees"),
        reward("hungry", (-0.1, -0.3, 0.2), 1, 0.6, -1, "undecided"),
        reward("dummy", dummy, 2, 1.0, None, None),
    ]
    if viable:
        found["rewards"] = {
            "events": ["eat", "emitted", "hungry", "dummy"],
            "worlds": [[0.5, 0.2, -0.1, 0.1], [0.6, 0.3, 0.1, -0.1], [0.4, 0.1, -0.2, 0.0]],
            "table": table,
            "controls": {name: without_heredity(table) for name in ("scrambled", "no-inheritance")},
        }
    beside = {
        "ours": [700.0, 710.0, 720.0], "theirs": [500.0, 510.0, 520.0], "delta": 1.0, "p_two_sided": 0.0571,
        "method": "exact",
    }  # fmt: skip
    found["viability"] = {
        "classes": ["viable", "viable", "viable", "extinct"] if viable else ["propped"] * 4,
        "restarts_that_lasted": [10, 10, 9, 0] if viable else [3, 2, 1, 0],
    }
    found["against_controls"] = {
        name: {"scrambled": beside, "blind": beside, "no-inheritance": beside}
        for name in ("population", "emission")
    }
    found["relearning"] = [paired("chemotactic index", [0.5, 0.6, 0.7], 0.04)]
    found["knock_outs"] = [paired("eat", [-1.0, -1.1, -0.9], 0.01), paired("dummy", [0.1, -0.1, 0.05], 0.9)]
    found["learned_in_life"] = [paired("chemotactic index, with and without", [0.0, 0.1, -0.1], 1.0)]
    return found


def jars(study: str = "jars") -> dict[str, Any]:
    """Three populations; the first excludes the second, the second gains on the third, and of the rest nothing is shown."""

    def test(mean: float, p: float) -> dict[str, Any]:
        return {
            "mean": mean, "drift": 0.503, "p": p, "holm": p, "jars": 20, "controls": 40, "least": 1e-15, "in_reach": True,
        }  # fmt: skip

    def contest(first: str, second: str, share: float, p: float, verdict: str) -> dict[str, Any]:
        return {
            "first": first, "second": second, "verdict": verdict, "first_gains": test(share, p),
            "second_gains": test(1 - share, 1.0), "first_invades": test(0.4, p), "second_invades": test(0.02, 1.0),
            "first_declines": test(0.4, 1.0), "second_declines": test(0.02, p / 2),
            "first_gone": 0.0, "second_gone": 0.35, "relative_yield": interval(1.07, 0.91, 1.22, 20),
            "overlap": {"overlap": 0.91, "expected": 0.97, "p": 0.031, "worlds": 20, "kind": "pianka"},
            "overlap_jars": 13, "blind": 0.49, "blind_jars": 18,
        }  # fmt: skip

    def hodge(share: float, p: float) -> dict[str, Any]:
        return {
            "order": ["0", "2", "1"], "cycles": 0, "triples": 1, "sure_cycles": 0,
            "hodge": {"share": share, "potentials": [1.0, -1.0, 0.0], "p": p, "null_share": 0.022},
        }  # fmt: skip

    return {
        "study": study,
        "settings": SETTINGS | {"policy": "Q-learning, heredity of rewards"},
        **FACTS,
        "runs": {"populations": run_hash("populations"), "followed": run_hash("followed")},
        "jars": {
            "jar": SETTINGS | {"width": 16, "capacity": 96},
            "evolution_steps": 2000, "jar_steps": 900, "replicates": 20, "founders": 200, "worlds": 999,
            "populations": [
                {
                    "name": str(i), "evolved": 300 + i, "immigrants": i, "alone": 123.4, "died_out": 0.05, "drift": 0.11,
                    "relative_yield": interval(1.0, 0.95, 1.05, 20),
                }
                for i in range(3)
            ],
            "contests": [
                contest("0", "1", 0.934, 0.003, "0 excludes 1"),
                contest("0", "2", 0.5, 0.9, "undecided"),
                contest("1", "2", 0.61, 0.8, "undecided") | {"first_gains": test(0.61, 0.041)} | {"relative_yield": None, "overlap": None, "blind": None},
            ],
            "verdicts": {
                "excludes": 1, "outgrows": 0, "coexist": 0, "undecided": 2, "cannot be shown": 0, "neither lives": 0,
            },
            "undecided": {"gains": 1, "rare": 0, "nothing": 1},
            "early_step": 150, "standing": hodge(0.0431, 0.21), "early_standing": hodge(0.039, 0.34),
            "found": ["Of 3 pairs, in 1 one <excludes> the other."],
        },
    }  # fmt: skip


def rotation(*, curl_p: float = 0.0004, worlds: int = 12, rewards_p: float = 0.4) -> dict[str, Any]:
    """The jars' ranking, and a selection that has no potential; behaviour was not at rest."""
    found = jars("rotation")

    def turning(p: float, trend: float) -> dict[str, Any]:
        return {
            "traits": ["emission", "response"], "trend_p": [trend, 0.7], "mean": [0.1, 0.2],
            "rotation": {"turning": [0.01, 0.02, 0.03], "mean": interval(0.02, 0.01, 0.03, worlds), "p": p},
        }  # fmt: skip

    found["rotation"] = {
        "worlds": worlds, "settled": 1000, "steps": 2560, "jars": found["jars"]["standing"],
        "early_jars": found["jars"]["early_standing"],
        "behaviour": turning(0.0005, 0.01), "rewards": turning(rewards_p, 0.6),
        "curl": {
            "emission": [-3.0, -1.0, 1.0], "response": [-2.0, 0.0, 2.0],
            "gradients": [[[0.01 * i, 0.02 * j] for j in range(3)] for i in range(3)],
            "share": 0.0842, "p": curl_p, "null_share": 0.0077, "mean_curl": 0.00035, "mean_curl_error": 0.0001,
            "replicates": 30, "gone": [[0.0, 0.0, 0.25]] * 3,
        },
        "learning": {
            "parameters": ["emission", "response"], "jacobian": [[0.03, -0.01], [0.02, 0.07]],
            "antisymmetric_share": 0.133, "null_share": 0.12, "p": 0.38, "between": 0.094, "between_p": 0.37,
            "steps": 32, "moved": 0.1, "replicates": worlds,
        },
        "found": ["What they do turns."],
    }  # fmt: skip
    return found


def written(folder: Path, found: dict[str, Any]) -> Path:
    """The folder of a study that found this."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(found), "utf-8")
    return folder
