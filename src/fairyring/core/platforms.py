"""What differs between operating systems: locks, owners of files, cores, memory. No other module calls what one of them lacks."""

import ctypes
import mmap
import os
import platform
import signal
import stat
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None
try:
    import resource
except ImportError:  # Windows
    resource = None

BINARY = getattr(os, "O_BINARY", 0)  # for `os.open`: without it Windows writes other ends of lines
_BEHIND = 1 << 30  # a byte that no lock file has: Windows lets nobody read what is locked
_CPU = Path("/proc/cpuinfo")
_STATUS = Path("/proc/self/status")
_END_WITH_PARENT = 1  # `prctl`


def lock(descriptor: int) -> None:
    """Lock an open file for this process until it is closed.

    Raises:
        BlockingIOError: another process has locked it.
        OSError: its file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    assert msvcrt is not None
    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _BEHIND, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:  # there is no other reason on a local file system
        raise BlockingIOError(error.errno, error.strerror) from None
    finally:
        os.lseek(descriptor, place, os.SEEK_SET)


def is_own(folder: Path) -> bool:
    """Whether only its user can write to a folder. On Windows that is a matter of where the folder is."""
    if not hasattr(os, "getuid"):
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def flush_folder(folder: Path) -> None:
    """Make renames in a folder survive a power failure, where a folder can be flushed."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def release_pages(pages: mmap.mmap) -> None:
    """Let go of what was read of a mapped file, where that can be said. It is mapped again when read."""
    if hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory of this machine; None if the system does not say."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def limit_memory(more: int) -> bool:
    """Let this process take at most so many bytes more than it has now, for itself and its threads. Returns whether the system can.

    What is counted is memory that can be written, whether or not it is: not what a program only reserves or maps to read.
    """
    taken = _status().get("VmData", "").removesuffix(" kB")
    if resource is None or not taken.isdigit():
        return False
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = 1024 * int(taken) + more
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    return True


def peak_memory() -> int | None:
    """The most bytes of memory that this process had at a time; None if the system does not say."""
    peak = _status().get("VmHWM", "").removesuffix(" kB")
    return 1024 * int(peak) if peak.isdigit() else None


def yield_to_others(by: int, cores: int | None = None) -> None:
    """Let other processes go first, and use at most so many cores, where the system can.

    Args:
        by: how much others go first: 0 not at all, 19 wholly.
        cores: the most that this process uses; None for all that it may use.
    """
    with suppress(AttributeError, OSError):
        os.nice(by)
    if cores is not None and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            there = sorted(os.sched_getaffinity(0))
            # Processes begin at different cores, so that several of them do not share one.
            chosen = {there[(os.getpid() + place) % len(there)] for place in range(cores)}
            os.sched_setaffinity(0, chosen)


def open_many(files: int) -> None:
    """Let this process have so many files and connections open, or as many as the system allows it."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def end_with_parent() -> None:
    """End this process at once when its parent ends, where the system can do that."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def end_group(leader: int) -> None:
    """End a process that began a session of its own, with all that it has started, where the system can; else do nothing."""
    with suppress(AttributeError, OSError):
        os.killpg(leader, signal.SIGKILL)


def load() -> float | None:
    """How many processes want a core, on average over a minute; None if the system does not say."""
    with suppress(AttributeError, OSError):
        return os.getloadavg()[0]
    return None


def cpu() -> str:
    """The name of the CPU."""
    return _cpu_fields().get("model name", "") or platform.processor() or platform.machine()


def instructions() -> str:
    """Which instructions the CPU has; where the system does not say, what tells machines apart."""
    fields = _cpu_fields()
    known = [
        f"{name}: {fields[name]}" for name in ("model name", "flags", "Features", "isa") if name in fields
    ]
    return "\n".join(known) or f"{platform.machine()} {platform.processor()} {platform.node()}"


def _cpu_fields() -> dict[str, str]:
    """What Linux says of the last of its processors."""
    with suppress(OSError):
        lines = [line.partition(":") for line in _CPU.read_text("utf-8").splitlines()]
        return {name.strip(): value.strip() for name, _, value in lines}
    return {}


def _status() -> dict[str, str]:
    """What Linux says of this process."""
    with suppress(OSError):
        lines = [line.partition(":") for line in _STATUS.read_text("utf-8").splitlines()]
        return {name: value.strip() for name, _, value in lines}
    return {}
