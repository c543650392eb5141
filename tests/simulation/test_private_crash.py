"""What must outlast a crash of a private run for what it says of itself to stay true."""

import json

import pytest

import fairyring as fr
from fairyring.rounds import recorder
from fairyring.rounds.spending import RoundNoise
from fairyring.simulation.worker import CompiledWorker

from .private_runs import people, plan, run

CENTRAL = plan(fr.gaussian_noise(1.5))


class Interrupted(Exception):
    pass


def test_what_an_audit_found_survives_a_crash_before_the_record_of_the_end(tmp_path, monkeypatch):
    """The last checkpoint is written before run.json: from there on nothing is run again, and nothing is looked at again."""
    folder = tmp_path / "run"

    def stop(record):
        if record.round == 2:
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(RoundNoise, "release", lambda noise, total, clients, *, shared: total)
        with pytest.raises(Interrupted):
            run(CENTRAL, 2, run=folder, entropy=None, audit=fr.privacy.DirectCheck(), on_round=stop)
    # Of a file that is not written again, too.
    (folder / "audit.safetensors.part").write_bytes(b"scores")
    run(CENTRAL, 2, run=folder, resume=True, entropy=None)
    said = json.loads((folder / "run.json").read_text())
    assert not said["audit"]["mechanism"]["holds"]
    assert not (folder / "audit.safetensors.part").exists()
    assert said["privacy"]["why_nothing"] == "the audit contradicts what was claimed"


def test_entropy_that_was_given_is_known_as_given_however_soon_a_run_is_cut_off(tmp_path, monkeypatch):
    """A run under masks is taken up in run.json no sooner than its first round; its secret is there before."""
    folder = tmp_path / "run"
    run(CENTRAL, 1, run=folder, entropy=None, secure_sum="protocol")

    def stop(*_):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(CompiledWorker, "warm", stop)
        with pytest.raises(Interrupted):
            run(CENTRAL, 2, run=folder, resume=True, secure_sum="protocol")
    assert json.loads((folder / "run.json").read_text())["entropy"] == "system"
    made = run(CENTRAL, 2, run=folder, resume=True, entropy=None, secure_sum="protocol")
    assert made.header["entropy"] == "given"
    assert "given by the caller" in made.header["privacy"]["why_nothing"]


def test_evaluations_are_told_of_though_the_rounds_they_judged_are_run_again(tmp_path):
    folder = tmp_path / "run"

    def stop(record):
        assert record.test is not None
        raise Interrupted

    options = {"run": folder, "entropy": None, "checkpoint_every": 9}
    with pytest.raises(Interrupted):
        run(CENTRAL, 2, test=people(6), evaluate_every=1, on_round=stop, **options)
    for rounds in (2, 3):
        run(CENTRAL, rounds, resume=True, keep_client_states=True, **options)
        said = json.loads((folder / "run.json").read_text())
        assert "Evaluations on held-out data are not covered" in [one["title"] for one in said["assumptions"]]
        assert any("metrics.jsonl: test.*" in one["names"] for one in said["outside"])


def test_a_run_that_is_cut_off_while_states_are_deleted_is_over_when_it_is_resumed(tmp_path, monkeypatch):
    folder, given = tmp_path / "run", plan(fr.gaussian_noise(1.5), algorithm=fr.scaffold())

    def cut_off(run):
        (run / "clients" / "states.bin").unlink()
        raise Interrupted

    def over(rounds, **options):
        return run(given, rounds, run=folder, entropy=None, **options)

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "delete_states", cut_off)
        with pytest.raises(Interrupted):
            over(1)
    (folder / "noise.key").write_bytes(bytes(32))  # as a kill leaves it
    assert len(over(1, resume=True).records) == 1
    assert not (folder / "noise.key").exists()
    assert not (folder / "clients").exists()
    with pytest.raises(fr.RunError, match="the states of its clients are gone"):
        over(2, resume=True)
