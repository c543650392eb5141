"""What a device's owner has settled: its service, whose plans it takes part in, how often, and when. A file in the device's folder."""

import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from fairyring.core.errors import RunDamaged, StorageError
from fairyring.core.files import replace_file

FILE = "device.json"
_Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Rehearsal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The seed of a simulation, and the entropy of its noise in hexadecimal digits: see `fairyring.device.Rehearsed`."""

    seed: int
    entropy: str | None = None


class DeviceSettings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """The settings of a device.

    Attributes:
        server: address of the service.
        service: its public key, in hexadecimal digits.
        fingerprint: of its certificate, where no authority has signed it.
        name: of this device, as the service knows it.
        authors: public keys of the authors whose plans it takes part in.
        on: whether it takes part.
        charging, idle, unmetered: whether it trains only while that is so.
        per_day: contributions in 24 hours, at most; None for no cap of its own.
        cores: that training uses at most.
        keep_seconds, keep_examples: how long, and how many, examples of a source are kept.
        targets: programs that it runs, the best first; empty for what is installed.
        rehearsal: draw what a simulation draws, which protects nobody.
        page: port of the owner's page on this machine; 0 for any free one, None for no page.
    """

    server: str
    service: _Hex
    fingerprint: str | None = None
    name: str = ""
    authors: tuple[_Hex, ...] = ()
    on: bool = True
    charging: bool = False
    idle: bool = False
    unmetered: bool = False
    per_day: int | None = None
    cores: int | None = None
    keep_seconds: float | None = None
    keep_examples: int | None = None
    targets: tuple[str, ...] = ()
    rehearsal: Rehearsal | None = None
    page: int | None = None

    def write(self, folder: Path) -> None:
        """Keep them in a device's folder."""
        replace_file(folder / FILE, msgspec.json.format(msgspec.json.encode(self)), mode=0o600)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "DeviceSettings":
        """The settings in a device's folder.

        Raises:
            StorageError: there are none: the device is not enrolled.
            RunDamaged: they are of another form.
        """
        path = Path(folder) / FILE
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StorageError(
                str(path),
                given=f"{error.strerror or error}",
                expected="the folder of a device that was enrolled",
                do="Enrol it: fairyring device enrol --server URL --token TOKEN --folder FOLDER.",
            ) from error
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RunDamaged(
                str(path),
                given=f"{error}",
                expected="settings of a device",
                do="Correct the file, or delete it and enrol the device again.",
            ) from error
