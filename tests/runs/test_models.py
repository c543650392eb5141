"""A run's models: predicted with, kept, chosen among, loaded without the plan, started from, and written for other software."""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest
import safetensors.numpy

import fairyring as fr
from fairyring.core.errors import ModelError, PlanError, RunDamaged, RunError, RunMismatch
from fairyring.learning import forward
from fairyring.learning.forward import StoredModel, stored_model
from fairyring.records.layout import INIT, MODEL
from fairyring.records.models import leaves_of
from fairyring.rounds.keeping import Keeping
from tests.learning.linear import people, task
from tests.rounds.round_records import record_of

PEOPLE, OTHERS = people([7, 12, 4, 9]), people([5, 6], seed=9)
LOCAL = fr.LocalTraining(optax.sgd(0.2), epochs=1, batch_size=4)
PLAN = fr.Plan(task(), local=LOCAL, cohort=3)
ROUNDS = 6


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> fr.Run:
    """A run whose models of rounds 2, 4 and 6 are all kept, in a folder."""
    folder = tmp_path_factory.mktemp("runs") / "all"
    return fr.simulate(PLAN, PEOPLE, rounds=ROUNDS, test=OTHERS, evaluate_every=2, keep="all", run=folder)


def same(left: Any, right: Any) -> bool:
    """Whether two trees have the same bits."""
    return all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )


# -- predicting -----------------------------------------------------------------------------------------------------


def test_predictions_are_the_models_own(kept: fr.Run) -> None:
    x = np.asarray(OTHERS.columns["x"])
    expected = PLAN.task.model.apply(kept.params, jnp.asarray(x), None)
    np.testing.assert_allclose(kept.predict(x), expected, rtol=1e-6, atol=1e-6)
    right = kept.predict(x).argmax(-1) == OTHERS.columns["y"]
    assert np.mean(right) == pytest.approx(kept.evaluate(OTHERS).metrics["accuracy"])


def test_a_loaded_run_predicts_the_same_bits_without_its_plan(kept: fr.Run) -> None:
    x = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)  # more than one batch of them
    saved = fr.load_run(kept.folder or "")
    assert saved.plan is None
    assert np.array_equal(saved.predict(x), kept.predict(x))
    assert same(saved.params, kept.params)
    assert repr(saved) == repr(kept)
    assert {**saved.table()}.keys() == kept.table().keys()
    assert saved.records == kept.records


def test_what_was_prepared_in_training_is_prepared_in_predicting() -> None:
    """Raw pixels: applied to them, the model would give something else."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 5)).astype(np.uint8)
    population = fr.Population.from_arrays(
        {"x": pixels, "y": np.arange(40, dtype=np.int32) % 3}, client=np.arange(40) // 10
    )
    run = fr.simulate(PLAN, population, rounds=1)
    prepared = PLAN.task.model.apply(run.params, jnp.asarray(pixels, jnp.float32) / 255, None)
    np.testing.assert_allclose(run.predict(pixels), prepared, rtol=1e-5, atol=1e-6)
    assert np.array_equal(run.predict(pixels.astype(np.int64)), run.predict(pixels))
    with pytest.raises(ModelError, match="uint8, as in training"):
        run.predict(pixels / 255)
    with pytest.raises(ModelError, match="from 0 to 300"):
        run.predict(np.where(pixels == pixels.max(), 300, pixels.astype(int)))


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_any_number_of_rows(kept: fr.Run, rows: int) -> None:
    x = np.ones((rows, 5), np.float32)
    assert kept.predict(x).shape == (rows, 3)


def test_inputs_of_another_shape_are_refused(kept: fr.Run) -> None:
    with pytest.raises(ModelError, match=r"x\[None\]"):
        kept.predict(np.ones(5))
    with pytest.raises(ModelError, match=r"\(rows, 5\)"):
        kept.predict(np.ones((2, 4)))
    with pytest.raises(ModelError, match="up to 1e\\+300"):
        kept.predict(np.full((1, 5), 1e300))


COLUMNS = {"x": ((5,), np.dtype(np.float32)), "y": ((), np.dtype(np.int32))}


def of_apply(apply: Any) -> fr.Plan:
    own = task()
    model = own.model._replace(apply=apply)
    return fr.Plan(fr.classification(model), local=LOCAL, cohort=3)


def test_a_model_for_one_number_of_rows_is_stored_for_that() -> None:
    """Written with a number where the rows are, it cannot be exported for any; a whole batch is predicted, and cut."""

    def apply(params: Any, x: jax.Array, key: Any) -> jax.Array:
        return (
            jnp.ones((128, 5)) * x if x.shape[0] == 128 else jnp.zeros((int(x.shape[0]), 5)) + x
        ) @ params["w"] + params["b"]

    stored = stored_model(of_apply(apply), COLUMNS)
    assert (stored.rows, stored.why_not) == (128, None)


def test_a_model_that_cannot_be_exported_says_why() -> None:
    def apply(params: Any, x: jax.Array, key: Any) -> jax.Array:
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda v: np.asarray(v), shape, x) @ params["w"] + params["b"]

    stored = stored_model(of_apply(apply), COLUMNS)
    assert stored.program is None
    assert stored.why_not
    assert StoredModel.decode(stored.encode()) == stored


def test_a_program_that_is_too_large_for_every_folder_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "LARGEST", 100)
    stored = stored_model(of_apply(task().model.apply), COLUMNS)
    assert stored.program is None
    assert "closes over" in (stored.why_not or "")


def test_a_folder_without_its_program_still_has_its_parameters(kept: fr.Run, tmp_path: Path) -> None:
    folder = shutil.copytree(kept.folder or "", tmp_path / "run")
    (folder / MODEL).unlink()
    saved = fr.load_run(folder)
    assert same(saved.params, kept.params)
    with pytest.raises(ModelError, match="forward pass"):
        saved.predict(np.ones((1, 5), np.float32))
    (folder / MODEL).write_bytes(b"\x81")
    with pytest.raises(RunDamaged, match="msgpack"):
        fr.load_run(folder).predict(np.ones((1, 5), np.float32))


def test_with_its_plan_a_loaded_run_is_whole(kept: fr.Run) -> None:
    saved = fr.load_run(kept.folder or "", plan=PLAN)
    assert jax.tree.structure(saved.params) == jax.tree.structure(kept.params)
    assert saved.evaluate(OTHERS).metrics == kept.evaluate(OTHERS).metrics
    with pytest.raises(RunError, match="plan=plan"):
        fr.load_run(kept.folder or "").evaluate(OTHERS)
    with pytest.raises(RunMismatch, match="another local"):
        fr.load_run(
            kept.folder or "",
            plan=fr.Plan(task(), local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=4), cohort=3),
        )


# -- keeping --------------------------------------------------------------------------------------------------------


def test_models_are_kept_as_asked(kept: fr.Run, tmp_path: Path) -> None:
    seen: dict[int, Any] = {}
    again = fr.simulate(
        PLAN,
        PEOPLE,
        rounds=ROUNDS,
        test=OTHERS,
        evaluate_every=2,
        keep=2,
        on_round=lambda record, params: seen.update({record.round: params}),
    )
    assert list(seen) == [1, 2, 3, 4, 5, 6]
    saved = fr.load_run(kept.folder or "")
    for round in (2, 4, 6):
        assert same(kept.at(round).params, seen[round])
        assert same(saved.at(round).params, seen[round])
    assert same(again.at(4).params, seen[4])
    with pytest.raises(RunError, match="one of the rounds 4, 6"):
        again.at(2)
    with pytest.raises(RunError, match="one of the rounds 2, 4, 6"):
        saved.at(3)


def test_the_best_model_is_kept_and_found(kept: fr.Run, tmp_path: Path) -> None:
    losses = {record.round: record.test.loss for record in kept.records if record.test is not None}
    best = min(losses, key=lambda round: losses[round])
    run = fr.simulate(
        PLAN, PEOPLE, rounds=ROUNDS, test=OTHERS, evaluate_every=2, keep="best", run=tmp_path / "run"
    )
    for one in (run, fr.load_run(tmp_path / "run"), kept):
        assert one.best().round == best
        assert same(one.best().params, kept.at(best).params)
    assert run.store.kept_models() == [best]


def records(*losses: float) -> list[Any]:
    from fairyring.records.round_record import Means

    return [record_of(i + 1, test=Means(loss, {"accuracy": -loss})) for i, loss in enumerate(losses)]


def test_which_models_stay() -> None:
    best = Keeping.of("best", best_by="loss", tested=True)
    history = records(3.0, 1.0, 2.0, float("nan"), 1.0)
    assert [best.keeps(history[: n + 1]) for n in range(5)] == [True, True, False, False, False]
    assert best.dropped([1, 2, 5], history) == [1, 5]  # the first of several
    assert Keeping.of("best", best_by="accuracy", tested=True).dropped([1, 2, 3], history) == [1, 3]
    assert Keeping.of("all", best_by="loss", tested=False).dropped([1, 2], history) == []
    assert Keeping.of(1, best_by="loss", tested=False).dropped([1, 2, 3], history) == [1, 2]
    assert Keeping.of(None, best_by="loss", tested=False).keeps(history) is False
    for wrong in ("bset", -1, 1.5, True):
        with pytest.raises(PlanError, match="keep"):
            Keeping.of(wrong, best_by="loss", tested=True)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="test="):
        Keeping.of("best", best_by="loss", tested=False)


def test_a_best_model_that_was_not_kept_is_not_replaced_by_another() -> None:
    run = fr.simulate(PLAN, PEOPLE, rounds=ROUNDS, test=OTHERS, evaluate_every=2)
    tested = run.records[3].test
    assert tested is not None
    better = msgspec.structs.replace(tested, loss=0.0)
    run.records[3] = msgspec.structs.replace(run.records[3], test=better)
    with pytest.raises(RunError, match="loss 0 after round 4, whose model was not kept"):
        run.best()
    with pytest.raises(RunError, match="'mse'"):
        run.best("mse")
    with pytest.raises(RunError, match="test="):
        fr.simulate(PLAN, PEOPLE, rounds=1).best()


def test_a_resumed_run_keeps_the_models_of_one_that_was_not_interrupted(kept: fr.Run, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop_at_5(record: fr.RoundRecord) -> None:
        if record.round == 5:
            raise Stop

    options: dict[str, Any] = {
        "test": OTHERS,
        "evaluate_every": 2,
        "run": tmp_path / "run",
        "checkpoint_every": 3,
    }
    for keep in ("all", "best"):
        with pytest.raises(Stop):
            fr.simulate(PLAN, PEOPLE, rounds=ROUNDS, keep=keep, on_round=stop_at_5, overwrite=True, **options)
        # After round 4 a model was kept, and no checkpoint was saved.
        run = fr.simulate(PLAN, PEOPLE, rounds=ROUNDS, keep=keep, resume=True, **options)
        assert run.best().round == kept.best().round
        assert same(run.best().params, kept.best().params)
        assert [*run.store.kept_models()] == ([2, 4, 6] if keep == "all" else [kept.best().round])


# -- starting -------------------------------------------------------------------------------------------------------


def test_a_run_starts_from_another(kept: fr.Run, tmp_path: Path) -> None:
    """From the run, a model of it, its folder, its parameters, or a file of them: the same bits."""
    file = kept.model().export(tmp_path / "model.safetensors")
    first = fr.simulate(PLAN, PEOPLE, rounds=1, init=kept)
    assert first.header["init"]
    assert not same(first.params, fr.simulate(PLAN, PEOPLE, rounds=1).params)
    saved = fr.load_run(kept.folder or "")
    for init in (kept.model(), kept.folder, kept.params, file, saved, saved.params, kept.model().by_name()):
        assert same(fr.simulate(PLAN, PEOPLE, rounds=1, init=init).params, first.params)


def test_a_rate_of_zero_leaves_it_as_it_was(kept: fr.Run) -> None:
    still = fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(0.0), epochs=1, batch_size=4),
        cohort=3,
        algorithm=fr.scaffold(),
    )
    run = fr.simulate(still, PEOPLE, rounds=2, init=kept)
    for left, right in zip(jax.tree.leaves(run.params), jax.tree.leaves(kept.params), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)


def test_the_first_model_stays_with_the_run(kept: fr.Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    whole = fr.simulate(PLAN, PEOPLE, rounds=4, init=kept)
    fr.simulate(PLAN, PEOPLE, rounds=2, init=kept, run=folder)
    with pytest.raises(RunMismatch, match="another first model"):
        fr.simulate(PLAN, PEOPLE, rounds=4, init=whole, run=folder, resume=True)
    assert same(fr.simulate(PLAN, PEOPLE, rounds=4, run=folder, resume=True).params, whole.params)
    assert len(leaves_of(safetensors.numpy.load_file(folder / INIT))) == 2


def test_a_model_of_another_kind_is_refused(kept: fr.Run, tmp_path: Path) -> None:
    wrong = {
        "shape": {**kept.params, "b": np.zeros(4, np.float32)},
        "structure": [np.zeros(3)],
        "finite": {**kept.params, "b": np.full(3, np.nan, np.float32)},
    }
    for says, init in wrong.items():
        with pytest.raises(ModelError, match=says):
            fr.simulate(PLAN, PEOPLE, rounds=1, init=init)
    with pytest.raises(RunError, match="no such folder"):
        fr.simulate(PLAN, PEOPLE, rounds=1, init=tmp_path / "nothing")


# -- where it is kept -----------------------------------------------------------------------------------------------


def test_a_run_is_overwritten_only_when_asked_and_never_a_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = fr.simulate(PLAN, PEOPLE, rounds=1, run=folder)
    with pytest.raises(RunError, match="overwrite=True"):
        fr.simulate(PLAN, PEOPLE, rounds=2, run=folder)
    assert fr.load_run(folder).rounds == first.rounds
    with pytest.raises(PlanError):  # nothing is deleted for a run that cannot be made
        fr.simulate(PLAN, PEOPLE, rounds=0, run=folder, overwrite=True)
    assert fr.load_run(folder).rounds == 1
    fr.simulate(PLAN, PEOPLE, rounds=2, run=folder, overwrite=True)
    assert fr.load_run(folder).rounds == 2
    (folder / "mine.txt").write_text("kept")
    with pytest.raises(RunError, match="in use"):
        fr.simulate(PLAN, PEOPLE, rounds=1, run=folder, overwrite=True)
    (folder / "mine.txt").unlink()
    (folder / "ledger.sqlite").write_bytes(b"")
    with pytest.raises(RunError, match="what it spent"):
        fr.simulate(PLAN, PEOPLE, rounds=1, run=folder, overwrite=True)
    assert fr.load_run(folder).rounds == 2


def test_a_saved_run_has_all_its_models(kept: fr.Run, tmp_path: Path) -> None:
    run = fr.simulate(PLAN, PEOPLE, rounds=4, test=OTHERS, evaluate_every=2, keep="all", init=kept)
    folder = run.save(tmp_path / "saved")
    saved = fr.load_run(folder)
    assert same(saved.at(2).params, run.at(2).params)
    assert same(run.at(2).params, saved.at(2).params)
    assert same(
        fr.simulate(PLAN, PEOPLE, rounds=5, run=folder, resume=True).params,
        fr.simulate(PLAN, PEOPLE, rounds=5, init=kept).params,
    )


# -- several test populations -----------------------------------------------------------------------------------------


def test_several_test_populations_have_names(tmp_path: Path) -> None:
    """The first judges; a record has each of them, and so has a loaded run."""
    both = {"here": OTHERS, "there": people([3, 8], seed=4)}
    run = fr.simulate(PLAN, PEOPLE, rounds=2, test=both, evaluate_every=1, run=tmp_path / "run")
    alone = {
        name: fr.simulate(PLAN, PEOPLE, rounds=2, test=one, evaluate_every=1) for name, one in both.items()
    }
    for record, *apart in zip(run.records, *(one.records for one in alone.values()), strict=True):
        assert record.test == apart[0].test
        assert record.tests == dict(zip(both, (one.test for one in apart), strict=True))
    assert run.tests["there"].metrics == alone["there"].tested.metrics  # type: ignore[union-attr]
    assert fr.load_run(tmp_path / "run").records == run.records
    arrays = fr.load_run(tmp_path / "run").client_arrays()
    assert arrays["test.loss"].shape == arrays["tests.there.loss"].shape == (2,)
    for wrong in ({}, {"a": 1}, [OTHERS]):
        with pytest.raises(PlanError, match="test"):
            fr.simulate(PLAN, PEOPLE, rounds=1, test=wrong)  # type: ignore[arg-type]


# -- other software -------------------------------------------------------------------------------------------------


def test_parameters_are_written_by_name(kept: fr.Run, tmp_path: Path) -> None:
    for name, read in (("m.npz", np.load), ("m.safetensors", safetensors.numpy.load_file)):
        arrays = read(fr.load_run(kept.folder or "").export(tmp_path / name))
        assert sorted(arrays) == ["b", "w"]
        assert same({n: arrays[n] for n in ("b", "w")}, kept.params)
    with pytest.raises(ModelError, match=r"\.onnx"):
        kept.export(tmp_path / "m.bin")
    with pytest.raises(ModelError, match=r"ends with \.onnx"):
        kept.export(tmp_path / "m.npz", to="onnx")
    with pytest.raises(ModelError, match="PyTorch"):
        kept.export(tmp_path / "m.pt")


def test_iree_computes_the_same(kept: fr.Run, tmp_path: Path) -> None:
    """The forward pass of a loaded run, whose program is for any number of rows."""
    pytest.importorskip("iree.compiler")
    from tests.learning.iree_host import run as run_there

    program = fr.load_run(kept.folder or "").export(tmp_path / "m.vmfb", rows=3).read_bytes()
    x = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_allclose(run_there(program, "main", [x])[0], kept.predict(x), rtol=1e-5, atol=1e-5)


def test_progress_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    fr.simulate(PLAN, PEOPLE, rounds=2)
    assert capsys.readouterr().out == ""
    fr.simulate(PLAN, PEOPLE, rounds=2, verbose=True)
    assert "round 2/2" in capsys.readouterr().out


# -- what is saved is not lost, and nothing else is taken for it ------------------------------------------------------------


def test_what_was_kept_before_a_resume_stays(tmp_path: Path) -> None:
    """A resume goes on as the run was to keep its models; another `keep` is for later rounds."""
    options: dict[str, Any] = {"test": OTHERS, "evaluate_every": 1, "run": tmp_path / "run"}
    fr.simulate(PLAN, PEOPLE, rounds=3, keep="all", **options)
    assert fr.simulate(PLAN, PEOPLE, rounds=5, resume=True, **options).store.kept_models() == [1, 2, 3, 4, 5]
    run = fr.simulate(PLAN, PEOPLE, rounds=8, keep=1, resume=True, **options)
    assert run.store.kept_models() == [1, 2, 3, 4, 5, 8]


def test_a_plan_with_other_code_is_not_the_plan_of_a_run(kept: fr.Run) -> None:
    own = task()

    def twice(params: Any, x: jax.Array, key: Any) -> jax.Array:
        return 2 * own.model.apply(params, x, key)

    other = fr.Plan(fr.classification(own.model._replace(apply=twice)), local=LOCAL, cohort=3)
    with pytest.raises(RunMismatch, match="apply"):
        fr.load_run(kept.folder or "", plan=other)


def test_arguments_of_another_kind_are_refused(kept: fr.Run, tmp_path: Path) -> None:
    for wrong in (3, kept):
        with pytest.raises(RunError, match="run folder"):
            fr.load_run(wrong)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"fr\.Plan"):
        fr.load_run(kept.folder or "", plan=3)  # type: ignore[arg-type]
    for wrong in ("2", 2.0, None):
        with pytest.raises(RunError, match="whole number"):
            fr.load_run(kept.folder or "").at(wrong)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="on_round"):
        fr.simulate(PLAN, PEOPLE, rounds=1, on_round=lambda: None)
    with pytest.raises(PlanError, match="on_round"):
        fr.simulate(PLAN, PEOPLE, rounds=1, on_round=lambda a, b, c: None)


def test_a_folder_of_runs_is_not_called_a_run_that_may_be_removed(kept: fr.Run) -> None:
    assert kept.folder is not None
    with pytest.raises(RunError, match=f"such as .*{kept.folder.name}") as error:
        fr.load_run(kept.folder.parent)
    assert "emove" not in str(error.value)


def test_parameters_whose_names_would_be_one_are_told_apart() -> None:
    from fairyring.core.tree_names import joined

    assert joined([["a", "b"], ["c"]]) == ["a.b", "c"]
    assert joined([["a.b"], ["a", "b"]]) == ["a.b", "a/b"]
    assert len(set(joined([["a", "b"], ["a/b"], ["a.b"]]))) == 3


def test_a_round_in_which_nothing_counts_has_no_mean() -> None:
    weightless = fr.Population.from_arrays(
        {"x": np.ones((4, 5), np.float32), "y": np.zeros(4, np.int32), "weight": np.zeros(4, np.float32)},
        client=np.array([0, 0, 1, 1]),
    )
    run = fr.simulate(fr.Plan(task(), local=LOCAL, cohort=2), weightless, rounds=1)
    assert np.isnan(run.records[0].loss)


def test_devices_sign_what_was_kept_and_given(tmp_path: Path) -> None:
    """Under the masked protocol a changed model is found, also one that is not the last."""
    stages = fr.chain(fr.clip(0.5), fr.quantize(bits=12), fr.secure_sum())
    masked = fr.Plan(task(), local=LOCAL, cohort=5, aggregation=stages)
    crowd, folder = people([4, 5, 3, 6, 4]), tmp_path / "run"
    first = PLAN.task.model.init(jax.random.key(3))
    fr.simulate(
        masked, crowd, rounds=2, evaluate_every=1, keep="all", init=first, run=folder, secure_sum="protocol"
    )
    found = fr.verify_run(folder)
    assert found.whole
    assert found.unchecked == ()
    for name in (INIT, MODEL, "models/round-000001.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(fr.SecureSumError, match=name.rpartition("/")[2]):
            fr.verify_run(folder)
        (folder / name).write_bytes(content)


# -- from the command line --------------------------------------------------------------------------------------------------


def test_columns_are_taken_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fairyring.cli._predict import export, predict
    from tests.cli.documented import FIELDS

    rows = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    names = list("abcde")
    columns = {"x": rows, "y": np.arange(8, dtype=np.int32) % 3}
    population = fr.Population.from_arrays(columns, client=np.arange(8) // 2)
    population.feature_names = {"x": tuple(names)}
    run = fr.simulate(PLAN, population, rounds=1, run=tmp_path / "run")
    order = [3, 0, 4, 1, 2]
    file = tmp_path / "x.csv"
    lines = [",".join(["who", *(names[i] for i in order)])]
    lines += [",".join(["somebody", *(repr(float(row[i])) for i in order)]) for row in rows]
    file.write_text("\n".join(lines), encoding="utf-8")
    predict(tmp_path / "run", file, out=tmp_path / "o.npy", round=None).show()
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), run.predict(rows), rtol=1e-5, atol=1e-6)
    assert "after round 1" in capsys.readouterr().out.replace("\n", " ")
    found = predict(tmp_path / "run", file, out=None, round=None).found
    assert set(found) == FIELDS["predict"]
    np.testing.assert_array_equal(found["outputs"], np.load(tmp_path / "o.npy"))
    found = export(tmp_path / "run", to="numpy", out=tmp_path / "model.npz", rows=1, round=None).found
    assert set(found) == FIELDS["export"]
    file.write_text("a,b,c,d\n1,2,3,4\n", encoding="utf-8")
    with pytest.raises(ModelError, match="not there: e"):
        predict(tmp_path / "run", file, out=None, round=None)
