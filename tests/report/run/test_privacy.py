"""The report says what was promised and spent, and cries out where an audit contradicts it."""

import os
import stat
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG
from safetensors.numpy import save_file

from fairyring.privacy.accounting import Accountant
from fairyring.privacy.ledger import Ledger, Promise
from fairyring.privacy.participation import AtMost
from fairyring.privacy.release import Release
from fairyring.report import write_report

from .run_folders import make_run_folder

DIRECTIONS = AtMost(6, 10)
PROMISE = {
    "epsilon": 8.0,
    "delta": 1e-5,
    "unit": "device",
    "relation": DIRECTIONS.relation,
    "sampling": DIRECTIONS.sampling,
    "mechanism": "skellam",
    "multiplier": 1.563,
    "spent": 7.87,
    "accountant": "Rényi <divergences>",
}
CANARIES = {
    "canaries": 500,
    "claimed": 7.87,
    "empirical": 5.6,
    "lower": 4.2,
    "confidence": 0.999,
    "holds": True,
}
MEMBERSHIP = {"claimed": 7.87, "delta": 1e-5, "lower": 9.5, "statement": "Told with an <AUC> of 0.7."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = make_run_folder(tmp_path / "run", run={"privacy": PROMISE})
    lines = [msgspec.json.decode(line) for line in (path / "metrics.jsonl").read_bytes().splitlines()]
    for record in lines:
        record |= {"snr": 0.3, "noise": 0.01}
        if record["round"] % 10 == 0:
            record["epsilon"] = 7.87 * record["round"] / 60
    (path / "metrics.jsonl").write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in lines))
    with Ledger(
        path / "ledger.sqlite",
        Promise("ab" * 32, 8.0, 1e-5, DIRECTIONS),
        accountant=Accountant(DIRECTIONS, 1e-5),
    ) as ledger:
        for round in range(1, 4):
            number = ledger.reserve(round, Release("gaussian", 4.0))
            if round < 3:
                ledger.release(number, bytes(32))
    return path


def audit(folder: Path, mechanism: bool = True, members: bool = True, **canaries: object) -> None:
    said = "All tests hold." if mechanism else "In <loss> it has 0 times the noise."
    (folder / "audit.json").write_bytes(
        msgspec.json.encode(
            {
                "mechanism": {"holds": mechanism, "statement": said, "blind": "It trusts <hooks>."},
                "canaries": CANARIES | canaries,
                "membership": MEMBERSHIP | {"holds": members},
                "reconstruction": {
                    "attack": "gradient matching",
                    "statement": "Not better than <blind>.",
                    "error": {"bare": 1e-6, "protected": 0.1, "blind": 0.05},
                },
            }
        )
    )
    images = {name: np.full((6, 64), 0.5, np.float32) for name in ("truth", "bare", "protected", "blind")}
    curve = {name: np.geomspace(1e-3, 1, 50, dtype=np.float32) for name in ("roc_false", "roc_true")}
    scores = {"scores": np.linspace(-3, 4, 500, dtype=np.float32)}
    save_file(images | curve | scores, folder / "audit.safetensors")


def page(folder: Path, *, drawn: bool = False) -> str:
    """The report of a run as text. Unless `drawn`, its figures are empty: to lay them out takes most of the time."""

    def empty(canvas: FigureCanvasSVG, file: IO[str], **_: object) -> None:
        file.write('<svg viewBox="0 0 1 1"></svg>')

    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            patch.setattr(FigureCanvasSVG, "print_svg", empty)
        return write_report(folder).read_text("utf-8")


def test_a_promise_is_told_with_all_it_rests_on(folder: Path) -> None:
    text = page(folder)
    assert 'id="privacy"' in text
    for words in ("epsilon 8 at delta 1e-05", "epsilon 7.87", "zero-out", "a device may take part 6 times"):
        assert words in text
    assert "Rényi &lt;divergences&gt;" in text
    assert "2 releases in a chain of 6 entries; 1 reservation never released counts as spent" in text
    assert "any conclusion about one device by a factor of at most e^7.87" in text
    assert "No canaries were sent" in text
    assert "No attack was tried" in text
    assert "No shadow runs were made" in text
    assert "alarm" not in text.split("</style>")[1]


def test_a_promise_of_little_worth_is_told_as_one(tmp_path: Path) -> None:
    promise = PROMISE | {"warnings": ["A delta of <0.25> is too much.", "Little signal."]}
    text = page(make_run_folder(tmp_path / "run", run={"privacy": promise}))
    assert '<p class="note alarm">A delta of &lt;0.25&gt; is too much.</p>' in text
    assert "Little signal." in text


def test_a_run_without_a_promise_has_no_such_section(tmp_path: Path) -> None:
    assert 'id="privacy"' not in page(make_run_folder(tmp_path / "run"))


def test_a_bound_of_zero_shows_nothing(folder: Path) -> None:
    audit(folder, lower=0.0)
    assert "epsilon 5.6, and nothing with 99.9% confidence" in page(folder)
    audit(folder)
    assert "epsilon 5.6, and at least 4.2 with 99.9% confidence" in page(folder)


def test_audits_are_shown(folder: Path) -> None:
    audit(folder)
    text = page(folder, drawn=True)
    assert "The claim stands: an audit can refute a promise, never prove one." in text
    assert "Not better than &lt;blind&gt;." in text
    assert "what this plan releases" in text
    assert "Told with an &lt;AUC&gt; of 0.7. A weak attack proves nothing" in text
    assert 'aria-label="Membership inference"' in text
    assert "All tests hold. It trusts &lt;hooks&gt;." in text
    assert "alarm" not in text.split("</style>")[1]


def test_exact_reads_are_told_with_chance_and_with_what_the_attack_cannot_show(folder: Path) -> None:
    audit(folder)
    reads = {"targets": 12, "exact": 7, "distinct": 19, "examples": 240, "readings": 2400, "chance": 0.0005}
    found = msgspec.json.decode((folder / "audit.json").read_bytes())
    found["reconstruction"] |= {
        "limits": ["of <later> models nothing"],
        "reads": reads,
        "bare_reads": reads | {"exact": 12},
    }
    (folder / "audit.json").write_bytes(msgspec.json.encode(found))
    images = {name: np.full((6, 64), 0.5, np.float32) for name in ("truth", "bare", "protected", "nearest")}
    save_file(images | {"blind": images["truth"]}, folder / "audit.safetensors")
    text = page(folder)
    assert "of &lt;later&gt; models nothing." in text
    assert (
        "7 of the 12 readings that are ranked first are an example of their round, exactly; 6 are shown"
        in text
    )
    assert "19 of 240, by 2,400 readings" in text
    assert "about 1.2" in text
    assert "over the example of that round which it is nearest to" in text


def test_a_refuted_promise_is_said_before_all_else(folder: Path) -> None:
    audit(folder, holds=False, lower=12.5)
    text = page(folder)
    alarm = text.index("The audit contradicts the promise: 7.87 is claimed, and canaries show at least 12.5")
    assert alarm < text.index("How it learned")
    assert "The claim stands" not in text


def test_a_mechanism_that_is_not_what_is_claimed_is_said_before_all_else(folder: Path) -> None:
    audit(folder, mechanism=False)
    text = page(folder)
    alarm = text.index("The mechanism is not what is claimed. In &lt;loss&gt; it has 0 times the noise.")
    assert alarm < text.index("How it learned")


def test_members_that_are_told_too_surely_are_said_before_all_else(folder: Path) -> None:
    audit(folder, members=False)
    text = page(folder)
    alarm = text.index("Shadow runs contradict the promise: 7.87 is claimed")
    assert alarm < text.index("How it learned")


def test_what_audits_found_during_a_run_is_shown(folder: Path) -> None:
    header = msgspec.json.decode((folder / "run.json").read_bytes())
    during = {"mechanism": {"holds": True, "statement": "All <tests> hold.", "blind": ""}}
    (folder / "run.json").write_bytes(msgspec.json.encode(header | {"audit": during}))
    text = page(folder)
    assert "All &lt;tests&gt; hold." in text
    assert "No canaries were sent" in text
    (folder / "run.json").write_bytes(msgspec.json.encode(header | {"audit": during | CANARIES}))
    assert "The claim stands" in page(folder)


def test_a_ledger_that_was_changed_is_not_believed(folder: Path) -> None:
    data = bytearray((folder / "ledger.sqlite").read_bytes())
    at = data.index(b'"multiplier":4')
    data[at + 13 : at + 14] = b"9"
    (folder / "ledger.sqlite").write_bytes(bytes(data))
    for rest in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (folder / rest).unlink(missing_ok=True)
    assert "The ledger does not hold" in page(folder)


def test_a_run_that_has_not_ended_says_so(folder: Path) -> None:
    unfinished = {name: value for name, value in PROMISE.items() if name not in ("spent", "accountant")}
    header = msgspec.json.decode((folder / "run.json").read_bytes())
    (folder / "run.json").write_bytes(
        msgspec.json.encode(header | {"privacy": unfinished, "status": "running"})
    )
    text = page(folder)
    assert "this run has not ended" in text
    assert "not yet known" in text


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that promises nothing, in an open folder."""
    before = os.umask(0)
    try:
        return write_report(make_run_folder(tmp_path_factory.mktemp("plain") / "run"))
    finally:
        os.umask(before)


def noisy(folder: Path, noise: float, lost: list[int] | None = None, *, evaluations: bool = True) -> Path:
    """The same run with noise in the means of its training, lost in it in some rounds; all of them by default."""
    path = folder / "metrics.jsonl"
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    for record in lines:
        record["noise_std"] = {"loss": 5 * noise, "metrics": {"accuracy": noise}}
        if lost is None or record["round"] in lost:
            record |= {"loss": 0.0, "metrics": {"accuracy": 1.0}}
            record["lost_in_noise"] = {"loss": True, "metrics": {"accuracy": True}}
        if not evaluations:
            record.pop("test", None)
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in lines))
    if not evaluations:
        (folder / "clients.safetensors").unlink()
    return folder


def test_what_is_lost_in_noise_is_no_number_anywhere(folder: Path) -> None:
    text = page(noisy(folder, 1.265, evaluations=False), drawn=True)
    assert "After 60 rounds the training accuracy is lost in noise" in text
    assert "its noise is ± 126.5\u00a0%, at round 60" in text
    assert "In every round the training loss is lost in noise: its noise is ± 6.325" in text
    assert text.count("lost in noise (± 126.5\u00a0%)") == 60  # in the table of rounds
    assert "100.0\u00a0%" not in text
    assert "Accuracy</" not in text  # no curve


def test_a_curve_has_a_gap_where_it_is_lost_and_a_band_of_noise_about_it(folder: Path, plain: Path) -> None:
    text = page(noisy(folder, 0.4, lost=[5, 6, 7]), drawn=True)
    assert "In 3 rounds the training accuracy is lost in noise: its noise is ± 40.0\u00a0%" in text
    assert "± its noise" in text
    assert "(noise ± 40.0\u00a0%) in training" in text
    quiet = plain.read_text("utf-8")
    assert "noise ±" not in quiet
    assert "± its noise" not in quiet
    assert "Accuracy</" in quiet


def test_the_bits_of_a_private_run_do_not_come_out_again(folder: Path, plain: Path) -> None:
    text = page(folder)
    assert "the same bits come out" not in text
    assert "The model does not come out again" in text
    assert "seed, versions and machine, the same bits come out" in plain.read_text("utf-8")


def test_where_nothing_is_promised_that_is_said_before_all_else(tmp_path: Path, plain: Path) -> None:
    """And what lies outside of a promise is listed."""
    void = PROMISE | {"why_nothing": "somebody knows the <noise>", "statement": "Nothing."}
    outside = [{"what": "the <seed>", "why": "It tells.", "names": ["run.json: seed", "x"]}]
    made = make_run_folder(
        tmp_path / "run", rounds=2, run={"privacy": void, "outside": outside, "entropy": "given"}
    )
    text = page(made)
    said = text.index(
        "Nothing is promised: somebody knows the &lt;noise&gt;. Take nothing about this run as private."
    )
    assert said < text.index("How it learned")
    assert "changes the odds" not in text
    assert "nothing is promised, delta 1e-05" in text
    assert "seed, entropy, versions and machine, the same bits come out" in text
    for words in (
        "what of it the promise does not cover",
        "the &lt;seed&gt;",
        "It tells.",
        "run.json: seed, x",
    ):
        assert words in text
    assert "what of it the promise does not cover" not in plain.read_text("utf-8")


@pytest.mark.parametrize("wrong", [{"mechanism": False}, {"holds": False, "lower": 12.5}, {"members": False}])
def test_an_audit_afterwards_is_not_hidden_by_one_that_found_nothing_during_the_run(
    folder: Path, wrong
) -> None:
    run = msgspec.json.decode((folder / "run.json").read_bytes())
    mechanism = {"holds": True, "statement": "All tests hold.", "blind": ""}
    (folder / "run.json").write_bytes(
        msgspec.json.encode(run | {"audit": CANARIES | {"mechanism": mechanism}})
    )
    assert "Take nothing about this run as private" not in page(folder)
    audit(folder, **wrong)
    text = page(folder)
    assert "Take nothing about this run as private" in text
    assert "Nothing is promised: the audit contradicts what was claimed. What follows was counted" in text
    assert "changes the odds" not in text
    assert "nothing is promised, delta 1e-05" in text


def test_two_epsilons_are_explained(folder: Path) -> None:
    audit(folder, beside="The audit ran the plan again.")
    assert "The audit ran the plan again." in page(folder)


def test_the_report_of_a_private_run_is_its_owners(folder: Path, plain: Path) -> None:
    out = folder / "report.html"
    for path in (out, out.with_name(f".{out.name}.part")):
        path.touch()
        path.chmod(0o666)
    assert stat.S_IMODE(write_report(folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(plain.stat().st_mode) == 0o666


def test_what_a_promise_by_sampling_does_not_hold_against_is_told(tmp_path: Path) -> None:
    for kind, more, words in (
        ("at_most", {}, "holds whatever else is known."),
        ("poisson", {}, "holds whatever else is known, but for who took part in a round."),
        ("fixed_size", {}, "holds whatever else is known, but for who took part in a round."),
        ("poisson", {"steps": 3, "unit": "example"}, "known, but for which examples were in a batch."),
    ):
        promise = PROMISE | {"participation": {"kind": kind}} | more
        assert words in page(make_run_folder(tmp_path / words[-20:] / kind, run={"privacy": promise}))


def test_a_promise_to_examples_is_none_to_canaries_which_are_clients(tmp_path: Path, folder: Path) -> None:
    promise = PROMISE | {"unit": "example", "steps": 3}
    text = page(make_run_folder(tmp_path / "silos", run={"privacy": promise}))
    assert "to whom a promise to every example is not made" in text
    assert "<code>fairyring audit</code> does that" not in text
    assert "<code>fairyring audit</code> does that" in page(folder)


@pytest.mark.parametrize(
    ("promise", "became"), [(PROMISE, "counted as zeros"), (None, "did not count")], ids=["private", "plain"]
)
def test_updates_that_are_not_finite_are_left_out_only_where_that_may_be_seen(
    promise: dict[str, object] | None, became: str, tmp_path: Path
) -> None:
    folder = make_run_folder(tmp_path / "run", run={"privacy": promise, "secure_sum": None})
    lines = [msgspec.json.decode(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    lines[0]["nonfinite"] = 2
    (folder / "metrics.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    assert f"2 updates held a number that is not finite, and {became}." in page(folder)
