"""Make the peers' virtual environments: `python benchmarks/peers/environments.py`.

Each peer lives in its own, `benchmarks/.peers/pfl` and `benchmarks/.peers/flower`, so that neither its pins nor
PyTorch touch ours. PyTorch comes first and alone; the peer then has to keep it.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / ".peers"
TORCH = ["torch==2.13.0", "numpy==2.4.6"]
PEERS = {"pfl": ["pfl==0.6.0"], "flower": ["flwr[simulation]==1.41.0", "ray==2.55.1"]}


def python(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    return ROOT / peer / "bin" / "python"


def make(peer: str) -> None:
    """Create the environment of `peer` unless it is whole already."""
    pip = [str(python(peer)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not python(peer).exists():
        venv.create(ROOT / peer, with_pip=True)
    subprocess.run([*pip, *TORCH], check=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(TORCH))
        constraints.flush()
        subprocess.run([*pip, "--constraint", constraints.name, *PEERS[peer]], check=True)


def main() -> None:
    """Make the environments named on the command line, or all."""
    for peer in sys.argv[1:] or PEERS:
        print(f"{peer}: {', '.join(TORCH + PEERS[peer])}", flush=True)
        make(peer)


if __name__ == "__main__":
    main()
