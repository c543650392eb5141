"""A whole session in files, in a process that kills itself: `python -m tests.secagg.killed_session FOLDER APPENDS`.

Run again it goes on. Prints the digest of the sum once there is one.
"""

import os
import signal
import sys
from pathlib import Path

from fairyring.secagg import Device, FileLog, Server, Session
from tests.secagg.driving import identity, root_secret, small_terms, vectors_of

DEVICES = 4


class KillingLog(FileLog):
    """A log whose process is killed after so many appends to any."""

    left = 0

    def append(self, kind: str, data: bytes) -> int:
        number = super().append(kind, data)
        KillingLog.left -= 1
        if KillingLog.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return number


def main(folder: Path, appends: int) -> None:
    KillingLog.left = appends
    terms = small_terms(DEVICES, bits=24, threat="semi_malicious")
    session = Session(terms, 4, bytes(32))
    vectors = vectors_of(DEVICES, terms)
    logs = [KillingLog(folder / f"{name}.log") for name in ("server", *range(DEVICES))]
    server = Server(session, logs[0])
    identities = [identity(i) for i in range(DEVICES)]
    devices = {
        one.public: (Device(session, one, log, entropy=lambda size, i=i: root_secret(i)[:size]), vectors[i])
        for i, (one, log) in enumerate(zip(identities, logs[1:], strict=True))
    }
    while server.phase != "done":
        if server.phase == "advertising":
            for device, _ in devices.values():
                server.receive(device.start())
        for to, data in server.announcements():
            device, vector = devices[to]
            answer = device.receive(data)
            if answer is not None:
                server.receive(answer)
        if server.phase == "masking":
            for device, vector in devices.values():
                server.receive(device.contribute(vector))
        list(server.close())
    assert server.result is not None
    print(server.result.transcript.result.hex())
    for log in logs:
        log.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
