"""Make the peers' virtual environments: `python benchmarks/peers/environments.py`.

Each peer lives in its own, `benchmarks/.peers/pfl`, `benchmarks/.peers/flower` and `benchmarks/.peers/ecology` (numba
and Mesa), so that neither its pins nor PyTorch touch ours. PyTorch, where a peer computes with it, and NumPy come first
and alone; the peer then has to keep them.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / ".peers"
NUMPY = ["numpy==2.4.6"]
TORCH = ["torch==2.13.0", *NUMPY]
PEERS = {
    "pfl": (TORCH, ["pfl==0.6.0"]),
    "flower": (TORCH, ["flwr[simulation]==1.41.0", "ray==2.55.1"]),
    "ecology": (NUMPY, ["numba==0.68.1", "mesa==3.3.1"]),
}


def python(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    return ROOT / peer / "bin" / "python"


def make(peer: str) -> None:
    """Create the environment of `peer` unless it is whole already."""
    pip = [str(python(peer)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not python(peer).exists():
        venv.create(ROOT / peer, with_pip=True)
    first, own = PEERS[peer]
    subprocess.run([*pip, *first], check=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(first))
        constraints.flush()
        subprocess.run([*pip, "--constraint", constraints.name, *own], check=True)


def main() -> None:
    """Make the environments named on the command line, or all."""
    for peer in sys.argv[1:] or PEERS:
        first, own = PEERS[peer]
        print(f"{peer}: {', '.join(first + own)}", flush=True)
        make(peer)


if __name__ == "__main__":
    main()
