"""The secret that all noise of a run is made from, and the file it is kept in until the run is over."""

from pathlib import Path

from fairyring.core.errors import PlanError, RunDamaged, RunError
from fairyring.core.files import replace_file
from fairyring.privacy.entropy import KEY_BYTES, fresh

_GIVEN = b" given"  # written after a secret that the caller gave: a run that is resumed must know


def check_entropy(entropy: object) -> None:
    """Raise `PlanError` unless `entropy` is 32 bytes, or None. The error does not show it: it may be most of a secret."""
    if entropy is not None and (not isinstance(entropy, bytes) or len(entropy) != KEY_BYTES):
        given = f"{len(entropy)} bytes" if isinstance(entropy, bytes) else type(entropy).__name__
        raise PlanError("entropy", given=given, expected=f"{KEY_BYTES} bytes", do="Leave it out.")


def root_secret(
    path: Path | None, entropy: bytes | None, *, over: bool | None = None, continues: bool = False
) -> tuple[bytes, bool]:
    """The secret of a run, and whether a caller gave it.

    Args:
        path: of the file that keeps it, for its owner alone; None to keep it in memory only.
        entropy: what the secret of a new run is; None for fresh entropy.
        over: of a resumed run that has reserved rounds: whether it was over; None for a run that has reserved none.
        continues: noise of later rounds is made from the secret of earlier ones.

    Raises:
        RunDamaged: the file of a run that is not over is missing, or is not a secret.
        RunError: the run is over, so its secret is deleted, and more rounds would need it.
    """
    if path is not None and over is not None:
        if path.exists():
            content = path.read_bytes()
            if content[KEY_BYTES:] not in (b"", _GIVEN) or len(content) < KEY_BYTES:
                raise _no_secret(path, f"{len(content)} bytes", "Put the whole file back")
            return content[:KEY_BYTES], len(content) > KEY_BYTES
        if not over:
            raise _no_secret(path, "no such file, in the folder of a run that has not ended", "Put it back")
        if continues:
            raise RunError(
                str(path),
                given="no such file: it is deleted once a run is over",
                expected="a run that is not over: correlated noise of later rounds takes back that of earlier ones, which is made "
                "from this secret",
                do="Start a new run folder, with all the rounds you want.",
            )
    secret, given = (fresh(), b"") if entropy is None else (entropy, _GIVEN)
    if path is not None:
        replace_file(path, secret + given, mode=0o600)
    return secret, bool(given)


def _no_secret(path: Path, given: str, do: str) -> RunDamaged:
    return RunDamaged(
        str(path),
        given=given,
        expected=f"the {KEY_BYTES} bytes that this run's noise is made from: with others, rounds that are computed again would be "
        "released twice",
        do=f"{do}, or start a new run folder.",
    )
