"""Two machines for real: devices in a network of their own, behind a link that is slow and loses packets."""

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.service.scenes import Scene

HERE, THERE = "10.231.7.1", "10.231.7.2"

DEVICES = """
import sys, threading
from pathlib import Path
from fairyring.device.agent import Agent
from fairyring.device.eligibility import Always
from fairyring.device.folder import DeviceFolder
from fairyring.device.ledger import DeviceLedger
from fairyring.device.randomness import Own
from fairyring.device.transport import Transport
from tests.service.scenes import TARGET, Numbers, Rows
url, author, *folders = sys.argv[1:]
for number, path in enumerate(folders):
    folder = DeviceFolder(Path(path))
    agent = Agent(
        folder, Transport(url, folder.identity), Rows(), DeviceLedger(folder.ledger), Numbers(number), Own(folder.secret),
        authors=[bytes.fromhex(author)], conditions=Always(), targets=[TARGET],
    )
    threading.Thread(target=agent.run, daemon=True).start()
sys.stdin.read()
"""


def ip(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextmanager
def another_network(delay: str, loss: str):
    """A network namespace with a link to this one; yields its name."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
        pytest.skip("network namespaces need root, ip and tc")
    name = f"fairyring-{os.getpid()}"
    ours, theirs = f"fra{os.getpid()}", f"frb{os.getpid()}"
    with ExitStack() as stack:
        try:
            ip("ip", "netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
            ip("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs)
            stack.callback(subprocess.run, ["ip", "link", "del", ours], capture_output=True)
            ip("ip", "link", "set", theirs, "netns", name)
            ip("ip", "addr", "add", f"{HERE}/30", "dev", ours)
            ip("ip", "link", "set", ours, "up")
            inside = ("ip", "netns", "exec", name)
            ip(*inside, "ip", "addr", "add", f"{THERE}/30", "dev", theirs)
            ip(*inside, "ip", "link", "set", theirs, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        netem = (*inside, "tc", "qdisc", "add", "dev", theirs, "root", "netem", "delay", delay, "loss", loss)
        yield name, subprocess.run(netem, capture_output=True).returncode == 0


class Relay:
    """A slow way to a service, on which connections break: for a kernel that has no netem. Each piece waits, and may be the last."""

    def __init__(self, port: int, seconds: float, loss: float) -> None:
        self.to, self.seconds, self.loss, self.dice = (HERE, port), seconds, loss, random.Random(7)
        self.broken = 0
        self.listening = socket.create_server((HERE, 0))
        self.url = f"http://{HERE}:{self.listening.getsockname()[1]}"
        self.open: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                near, far = self.listening.accept()[0], socket.create_connection(self.to)
                self.open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self.pass_on, args=(one, other), daemon=True).start()

    def pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while piece := one.recv(65536):
                time.sleep(self.seconds)
                if self.dice.random() < self.loss:
                    self.broken += 1
                    break
                other.sendall(piece)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in (self.listening, *self.open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Remote(Scene):
    """A scene whose devices run in a process in another network."""

    def begin(self, number, agent=None, url=None):
        return None


def test_devices_behind_a_link_that_is_slow_and_loses_packets(request, tmp_path):
    """300 ms for each answer, and 5 % of what is sent is lost: rounds are summed, with all devices in them."""
    with (
        another_network("300ms", "5%") as (name, netem),
        Remote(tmp_path, 3, host=HERE, plain=True) as scene,
        closing(Relay(scene.service.port, 0.15, 0.05)) as relay,
    ):
        folders = [str(folder.path) for folder in scene.folders]
        for folder in scene.folders:
            folder.close()  # its lock is the device's
        process = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-W", "ignore", "-c", DEVICES, scene.service.url if netem else relay.url,
             scene.author.public.hex(), *folders],
            stdin=subprocess.PIPE, cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        try:
            for number in range(1, 6 if request.config.getoption("soak") else 2):
                stored = scene.round(number, seconds=60.0, stage=40.0)
                assert (stored.outcome, stored.count) == ("summed", 3)
        finally:
            process.stdin.close()
            process.wait(20)
