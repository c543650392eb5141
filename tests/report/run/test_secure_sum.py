"""The report shows what the server saw, and judges it by a test that can fail."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fairyring.report import write_report
from fairyring.report.run.uniformity import uniformity
from fairyring.secagg.keystream import apply_masks, word_of

from .run_folders import make_run_folder

PROMISE = {"says": "The server learns the sum of at least 10 devices' vectors.", "modulus_bits": 16}


def words(bits: int, count: int = 20_000) -> np.ndarray:
    """A keystream's words: as random as any."""
    zeros = np.zeros(count, word_of(bits))
    apply_masks(zeros, [(bytes(range(32)), 1)])
    return zeros & word_of(bits)((1 << bits) - 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = make_run_folder(tmp_path / "run", run={"secure_sum": "protocol"}, plan={"secure_sum": PROMISE})
    clear = (np.arange(20_000) % 7).astype(np.uint32)
    save_file({"clear": clear, "received": words(16).astype(np.uint32)}, path / "exhibit.safetensors")
    return path


def page(folder: Path) -> str:
    return write_report(folder).read_text("utf-8")


def test_a_client_in_the_clear_stands_beside_what_was_received(folder):
    text = page(folder)
    assert 'id="secure-sum"' in text
    assert PROMISE["says"].replace("'", "&#x27;") in text
    assert "60 sums were released" in text
    assert "they are told from random bytes at once" in text
    assert "they are not told from random bytes" in text
    assert text.count("data:image/png") == 2


def test_what_is_not_random_is_not_said_to_be(folder):
    skewed = (words(16) % 60_000).astype(np.uint32)
    save_file({"clear": skewed, "received": skewed}, folder / "exhibit.safetensors")
    assert "they are not told from random bytes" not in page(folder)


def test_rounds_without_a_sum_are_told_with_their_reasons(folder):
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    cut = [
        lines[0].replace("{", '{"aborted": {"stage": "masking", "reason": "2 devices <b>"}, ', 1),
        *lines[1:],
    ]
    (folder / "metrics.jsonl").write_text("\n".join(cut), "utf-8")
    text = page(folder)
    assert "59 sums were released" in text
    assert "1 round, masking: 2 devices &lt;b&gt;" in text


def test_the_ideal_form_is_not_shown_as_protection(tmp_path):
    text = page(make_run_folder(tmp_path / "run", run={"secure_sum": "ideal"}, plan={"secure_sum": PROMISE}))
    assert "computed in its ideal form" in text
    assert "sums were released" not in text


def test_a_plan_without_a_secure_sum_has_no_such_section(tmp_path):
    assert 'id="secure-sum"' not in page(make_run_folder(tmp_path / "run"))


def test_a_run_that_kept_no_exhibit_says_so(folder):
    (folder / "exhibit.safetensors").unlink()
    assert "No client&#x27;s input was kept" in page(folder)


@pytest.mark.parametrize("bits", [16, 17, 24, 32, 64])
def test_a_keystream_passes_and_anything_with_structure_fails(bits):
    assert uniformity(words(bits), bits).p > 1e-3
    assert uniformity(words(bits) & ~word_of(bits)(2), bits).p < 1e-9
    assert uniformity(np.zeros(100, word_of(bits)), bits).p < 1e-9
    even = np.arange(1 << 16, dtype=np.uint16)
    assert uniformity(even, 16).p < 1e-9, "too even is not random either"


def test_chances_are_spread_as_chances_are():
    """Of 64 random pieces about half lie below a half: within four standard deviations."""
    many = words(16, 64 * 2000)
    chances = np.array([uniformity(many[i * 2000 : (i + 1) * 2000], 16).p for i in range(64)])
    assert abs((chances < 0.5).sum() - 32) < 16
    assert abs((chances < 0.1).sum() - 6.4) < 10


def test_no_words_no_verdict():
    found = uniformity(np.zeros(0, np.uint16), 16)
    assert found.bytes == 0
    assert np.isnan(found.p)
