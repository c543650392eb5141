"""The distribution for devices: what is in it is what a device imports, and it trains where nothing else is installed."""

import ast
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest

import fairyring
from fairyring.core.errors import MissingExtra
from fairyring.device import Rehearsed, Trainer
from fairyring.device.training import model_values
from tests.device.plans import (
    ENTROPY,
    PEOPLE,
    SEED,
    first_model,
    invitation,
    masked_plan,
    program_of,
    published,
)

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "fairyring"
FOLDER = ROOT / "packaging" / "device"
LARGEST = 250e6  # bytes of all that is installed
# Rooms that are only entered where JAX is installed.
WITH_JAX = {"core.program", "lowering"}


def settings() -> dict:
    return tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))


def packed() -> set[Path]:
    """Modules that are in the distribution."""
    included = settings()["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    found: set[Path] = set()
    for source, target in included.items():
        path = (FOLDER / source).resolve()
        assert path.exists(), f"{source} is not there"
        assert target == "fairyring/LICENSE" or path == SOURCE / Path(target).relative_to("fairyring")
        found |= set(path.rglob("*.py")) if path.is_dir() else {path} if path.suffix == ".py" else set()
    return found


def needed() -> set[Path]:
    """Modules that a device's modules import, anywhere in them, and the packages these are in."""
    found, new = set(), {*(SOURCE / "device").rglob("*.py")}
    while new:
        path = new.pop()
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fairyring")
            names = [f"{node.module}.{alias.name}" for alias in node.names] if named else []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.startswith("fairyring")]
            # Doors of rooms import what is behind them on first use.
            if path.name == "__init__.py" and "device" not in path.parts:
                names = [name for name in names if path.parent.name in ("messages", "secagg")]
            for name in names:
                parts = name.split(".")[1:]
                if any(".".join(parts[:end]) in WITH_JAX for end in (1, 2)):
                    continue
                for end in range(len(parts) + 1):
                    folder = SOURCE.joinpath(*parts[:end])
                    new |= {
                        one for one in (folder / "__init__.py", folder.with_suffix(".py")) if one.is_file()
                    }
        new -= found
    return found


def test_it_has_what_a_device_imports_and_nothing_else():
    names = [{path.relative_to(SOURCE).as_posix() for path in paths} for paths in (packed(), needed())]
    # A verifier's; the room is taken whole.
    assert names[0] ^ names[1] == {"secagg/history.py"}


def test_it_asks_for_what_the_whole_package_asks_for():
    device, whole = (
        settings()["project"],
        tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"],
    )
    asked = {
        *whole["dependencies"],
        *(one for extra in whole["optional-dependencies"].values() for one in extra),
    }
    assert {one for one in device["dependencies"] if "httpx2" not in one} <= asked
    module, name = device["scripts"]["fairyring-device"].split(":")
    assert name in (ROOT / "src" / f"{module.replace('.', '/')}.py").read_text("utf-8")
    assert issubclass(fairyring.NotForDevices, ImportError)
    assert not issubclass(fairyring.NotForDevices, MissingExtra)


TRAIN = """
import sys
from pathlib import Path
import numpy as np
import fairyring as fr
from fairyring.device import Trainer, targets_here
from fairyring.messages import read_manifest
folder = Path(sys.argv[1])
manifest = read_manifest((folder / "manifest").read_bytes())
with np.load(folder / "values.npz") as archive:
    values = dict(archive)
with Trainer(nice=0) as trainer:
    trained = trainer.train(manifest, targets_here()[0], folder / "program", values)
np.save(folder / "vector.npy", trained.vector)
try:
    fr.Plan
    raise SystemExit("the whole package is here")
except fr.NotForDevices as error:
    assert "pip install fairyring" in str(error)
    assert isinstance(error, ImportError)
assert fr.device.Participant.of_command(["true"]).targets == tuple("encode-" + t for t in targets_here())
assert not [name for name in sys.modules if name.split(".")[0] in ("jax", "jaxlib", "optax", "equinox")]
print(*targets_here())
"""


@pytest.mark.slow
def test_it_trains_where_nothing_else_is_installed(tmp_path, capsys):
    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", **_pip()}
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, FOLDER)
    (wheel,) = tmp_path.glob("fairyring_device-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-compile"),
        *("-c", ROOT / "constraints.txt", wheel),
    )
    package = published("jax", "iree-x86_64")
    device, invited = Rehearsed(SEED, ENTROPY), invitation(package.manifest, place=2)
    values = {
        **model_values(package.manifest, first_model(masked_plan())),
        "round": np.asarray(1, np.int32),
        **PEOPLE.client(2),
        "client_key": device.client_key(package.manifest, invited),
        "shared_key": np.array(invited.shared_key, np.uint32),
    }
    np.savez(tmp_path / "values.npz", **values)
    (tmp_path / "manifest").write_bytes(package.signed)
    (tmp_path / "program").write_bytes(program_of(package, "iree-x86_64"))
    assert run(python, "-c", TRAIN, tmp_path).split() == ["iree-x86_64", "iree-vmvx"]
    with Trainer(nice=0) as trainer:
        here = trainer.train(package.manifest, "iree-x86_64", program_of(package, "iree-x86_64"), values)
    np.testing.assert_array_equal(np.load(tmp_path / "vector.npy"), here.vector)
    help = run(tmp_path / "venv" / "bin" / "fairyring-device", "--help")
    assert "fairyring-device" in help
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    with capsys.disabled():
        print(
            f"\nfairyring-device: {wheel.stat().st_size / 1e3:.0f} kB, {size / 1e6:.0f} MB with all that it needs"
        )
    assert size < LARGEST


def _pip() -> dict[str, str]:
    """Where pip looks for packages: as for this process."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "HOME"}
