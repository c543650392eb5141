"""A participant with its own training sends what a device sends: the same report, through the same stages."""

import json
import sys
import time

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest

import fairyring as fr
from fairyring.core.errors import TrainingFailed
from fairyring.device import Fitted, Participant, Rehearsed, Trainer
from fairyring.device.participant import encoding_forms, named
from fairyring.learning.encoding import encoding
from fairyring.messages import Limits
from tests.device.plans import ENTROPY, PEOPLE, SEED, first_model, invitation, masked_plan, published

CLIENT, ROUND = 2, 1


@pytest.fixture(scope="module")
def stages():
    return encoding(masked_plan()).serialize()


@pytest.fixture(scope="module")
def manifest():
    given = published("jax", "iree-x86_64").manifest
    return msgspec.structs.replace(given, limits=Limits(3, 12, seconds=60.0))


@pytest.fixture(scope="module")
def trainer():
    with Trainer(nice=0, cores=1) as made:
        yield made


def values(manifest):
    device, invited = Rehearsed(SEED, ENTROPY), invitation(manifest, ROUND, place=CLIENT)
    return {
        "params": np.concatenate([array.ravel() for array in first_model(masked_plan())]),
        "round": np.asarray(ROUND, np.int32),
        "client_key": device.client_key(manifest, invited),
        "shared_key": np.array(invited.shared_key, np.uint32),
    }


def one_step(model, round):
    """Softmax regression's gradient step in NumPy, as the plan's local training: one batch, rate 0.2."""
    rows = PEOPLE.client(CLIENT)
    x, y = rows["x"].astype(np.float64), rows["y"]
    scores = x @ model["w"] + model["b"]
    odds = np.exp(scores - scores.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    slope = (odds - np.eye(4)[y]) / len(y)
    trained = {"w": model["w"] - 0.2 * x.T @ slope, "b": model["b"] - 0.2 * slope.sum(0)}
    loss = -np.log(odds[np.arange(len(y)), y]).mean()
    accuracy = (scores.argmax(1) == y).mean()
    return Fitted(trained, len(y), float(loss), {"accuracy": float(accuracy)})


def differences(ours, theirs, bits=24):
    steps = (ours.astype(np.int64) - theirs + (1 << (bits - 1))) % (1 << bits)
    return np.abs(steps - (1 << (bits - 1)))


def test_a_participants_report_is_that_of_a_device(manifest, trainer, stages):
    participant = Participant(one_step, trainer=trainer)
    assert participant.targets[0] == "encode-jax"
    found = participant.train(manifest, "encode-jax", stages, values(manifest))
    plan, rows = masked_plan(), PEOPLE.client(CLIENT)
    program = plan.program(plan.task.columns_of(PEOPLE), len(rows["y"]))
    given = values(manifest) | rows | {"size": np.asarray(len(rows["y"]), np.int32)}
    expected = np.asarray(jax.jit(program.exported.call)(*(given[a.name] for a in program.arguments))[0])
    assert found.finite
    assert found.vector.dtype == expected.dtype
    # A grid's step apart, where float32 and float64 round to two sides of its middle.
    assert differences(found.vector, expected)[:244].max() <= 1
    assert np.mean(differences(found.vector, expected)[:244] > 0) < 0.05
    assert differences(found.vector, expected)[244:].max() <= 64
    assert found.client_state is None


def test_the_forms_of_the_stages_are_those_that_their_program_has(manifest):
    arguments, results = encoding_forms(manifest)
    program = encoding(masked_plan())
    assert [(a.name, a.shape, np.dtype(a.dtype)) for a in arguments] == [
        (a.name, a.shape, a.dtype) for a in program.arguments
    ]
    assert [(r.name, r.shape, np.dtype(r.dtype)) for r in results] == [
        (r.name, r.shape, r.dtype) for r in program.results
    ]
    params = values(manifest)["params"]
    model = named(manifest, params)
    for name, leaf in zip(
        model, jax.tree.leaves(masked_plan().layout.unflatten(jnp.asarray(params))), strict=True
    ):
        np.testing.assert_array_equal(model[name], leaf)
    assert list(model) == ["b", "w"]
    with pytest.raises(TrainingFailed, match="243 parameters"):
        named(manifest, params[1:])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model": {"w": np.zeros((60, 4))}}, "no 'b'"),
        ({"model": {"w": np.zeros((60, 4)), "b": np.zeros(4), "c": 0}}, "an unknown 'c'"),
        ({"model": {"w": np.zeros((4, 60)), "b": np.zeros(4)}}, r"'w' as float64 \[4, 60\]"),
        ({"model": {"w": np.full((60, 4), "a"), "b": np.zeros(4)}}, "'w' as <U1"),
        ({"examples": 0}, "0 examples"),
        ({"examples": 2.5}, r"2\.5 examples"),
        ({"loss": (1.0, 2.0)}, r"loss as \(1\.0, 2\.0\)"),
        ({"metrics": {}}, "no 'accuracy'"),
        ({"weight": -1.0}, r"weight -1\.0"),
    ],
)
def test_what_does_not_fit_the_plan_is_refused(manifest, trainer, stages, change, text):
    facts = {"model": {"w": np.zeros((60, 4)), "b": np.zeros(4)}, "examples": 3, "loss": 1.0,
             "metrics": {"accuracy": 0.5}} | change  # fmt: skip
    participant = Participant(lambda model, round: Fitted(**facts), trainer=trainer)
    with pytest.raises(TrainingFailed, match=text) as caught:
        participant.train(manifest, "encode-jax", stages, values(manifest))
    assert caught.value.reason == "nonsense"


def test_a_fit_that_fails_or_diverges_harms_nobody(manifest, trainer, stages):
    def failing(model, round):
        raise RuntimeError("no more beds")

    def diverging(model, round):
        return Fitted({name: array + np.inf for name, array in model.items()}, 3, np.nan, {"accuracy": 0.0})

    with pytest.raises(TrainingFailed, match="RuntimeError: no more beds"):
        Participant(failing, trainer=trainer).train(manifest, "encode-jax", stages, values(manifest))
    found = Participant(diverging, trainer=trainer).train(manifest, "encode-jax", stages, values(manifest))
    assert not found.finite
    assert not np.any(np.isnan(found.vector.astype(float)))


def test_plans_that_need_their_own_training_are_refused(manifest, trainer, stages):
    participant = Participant(one_step, trainer=trainer)
    document = json.loads(manifest.document)
    scaffold = msgspec.structs.replace(
        manifest, document=json.dumps(document | {"algorithm": {"scaffold": {}}}).encode()
    )
    noisy = msgspec.structs.replace(manifest, step_noise=manifest.message.noise)
    for given, text in ((scaffold, "the algorithm scaffold"), (noisy, "noise in local steps")):
        with pytest.raises(fr.PlanError, match=text):
            participant.train(given, "encode-jax", stages, values(manifest))
    with pytest.raises(fr.PlanError, match="one that begins with 'encode-'"):
        participant.train(manifest, "jax", stages, values(manifest))


def test_measures_travel_as_the_plan_says(manifest):
    document = json.loads(manifest.document)
    document["task"]["metrics"].append({"name": "recall", "bound": 1.0, "weight_bound": 1.0})
    document["local"]["importance"] = "severity"
    weighted = msgspec.structs.replace(manifest, document=json.dumps(document).encode())
    participant, params = Participant(one_step), np.zeros(244, np.float32)
    facts = ({"w": np.ones((60, 4)), "b": np.ones(4)}, 8, 0.5, {"accuracy": 0.25, "recall": (3.0, 5.0)})
    update, auxiliary = participant.values(weighted, params, Fitted(*facts, weight=4.0))
    np.testing.assert_array_equal(update, np.ones(244, np.float32))
    assert auxiliary.tolist() == [4.0, 0.5, 0.25, 0.75, 1.25]
    assert encoding_forms(weighted)[0][1].shape == (5,)
    with pytest.raises(TrainingFailed, match="the column 'severity'"):
        participant.values(weighted, params, Fitted(*facts))
    with pytest.raises(TrainingFailed, match="a pair"):
        participant.values(weighted, params, Fitted(*facts[:3], {"accuracy": 0.25, "recall": 0.6}, 4.0))


SCRIPT = """
import json, pathlib, sys
import numpy as np
folder = pathlib.Path(sys.argv[-1])
facts = json.loads((folder / "round.json").read_text())
if sys.argv[1] == "npz":
    with np.load(folder / "model.npz") as archive:
        model = {name: archive[name] for name in archive.files}
    np.savez(folder / "fitted.npz", **{name: array + facts["round"] for name, array in model.items()})
else:
    import safetensors.numpy
    model = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file({n: a + facts["round"] for n, a in model.items()}, folder / "fitted.safetensors")
assert list(model) == facts["parameters"]
(folder / "fitted.json").write_text(json.dumps({"examples": 5, "loss": 0.5, "metrics": {"accuracy": 1}}))
"""


@pytest.mark.parametrize("files", ["npz", "safetensors"])
def test_a_command_is_a_participant(manifest, trainer, stages, files, tmp_path):
    (tmp_path / "fit.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "fit.py"), files]
    participant = Participant.of_command(command, files=files, trainer=trainer)
    found = participant.train(manifest, "encode-jax", stages, values(manifest))
    plain = Participant(
        lambda model, round: Fitted({n: a + round for n, a in model.items()}, 5, 0.5, {"accuracy": 1.0}),
        trainer=trainer,
    )
    expected = plain.train(manifest, "encode-jax", stages, values(manifest))
    np.testing.assert_array_equal(found.vector, expected.vector)


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        ("import sys; sys.exit('no scanner')", "crashed", "it ended with 1: no scanner"),
        ("pass", "nonsense", "FileNotFoundError"),
        ("import time; time.sleep(60)", "timeout", r"more than 0\.7 s"),
    ],
)
def test_a_command_that_fails_is_said_and_ended(manifest, code, reason, text):
    participant = Participant.of_command(
        [sys.executable, "-c", code], seconds=0.7 if reason == "timeout" else 30
    )
    began = time.monotonic()
    with pytest.raises(TrainingFailed, match=text) as caught:
        participant.train(manifest, "encode-jax", b"", values(manifest))
    assert caught.value.reason == reason
    assert time.monotonic() - began < 10
    with pytest.raises(TrainingFailed, match="No such file"):
        Participant.of_command(["no such command"]).train(manifest, "encode-jax", b"", values(manifest))
    with pytest.raises(fr.PlanError, match="a list of a program"):
        Participant.of_command([])


def test_whatever_a_command_has_started_ends_with_it(manifest, tmp_path):
    later = f"import pathlib, time; time.sleep(1.5); pathlib.Path({str(tmp_path / 'alive')!r}).touch()"
    code = (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {later!r}]); time.sleep(60)"
    )
    participant = Participant.of_command([sys.executable, "-c", code], seconds=0.7)
    with pytest.raises(TrainingFailed, match="more than"):
        participant.train(manifest, "encode-jax", b"", values(manifest))
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()
