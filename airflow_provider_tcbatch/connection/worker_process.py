"""Naming a worker's process so that a triggerer on the same machine can see whether it is still there."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from pathlib import Path

__all__ = ["is_there", "slowdown", "this_process"]


def this_process() -> str:
    """What names this process: ``<where>.<pid>.<start>``; empty where there is no such file system as Linux's /proc."""
    place, pid = _place(), os.getpid()
    start = _start(pid)
    return f"{place}.{pid}.{start}" if place and start else ""


def is_there(name: str) -> bool | None:
    """Whether a process is still there, if only because its parent has not taken notice of its end.

    :param name: what :func:`this_process` returned in it.
    :return: ``None`` if that can't be seen from here: it ran on another machine, in another container, or for another
        user (whose processes may be hidden).
    """
    place, _, rest = name.partition(".")
    pid, _, start = rest.partition(".")
    if not place or place != _place() or not pid.isdigit() or not int(pid):
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return None
    # Another process may have got its number meanwhile. Where its start can't be read, it counts as the same.
    return _start(int(pid)) in (start, "")


def slowdown() -> float:
    """How many times as long as its work takes this process took for it, because others had the CPU.

    Waiting for an answer, or sleeping, does not count. Where the system does not tell, it is 1.
    """
    try:
        # Nanoseconds on a CPU, and waiting for one although there was work (the kernel's sched-stats.rst).
        worked, waited, *_ = (int(word) for word in Path("/proc/self/schedstat").read_text().split())
    except (OSError, ValueError):
        return 1.0
    return 1.0 + waited / worked if worked > 0 and waited > 0 else 1.0


@functools.cache
def _place() -> str:
    """What tells the processes that this one can see from all others: machine, PID namespace, user."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    words = f"{socket.gethostname()} {boot} {namespace} {os.geteuid()}"
    return hashlib.blake2s(words.encode(), digest_size=6).hexdigest()


def _start(pid: int) -> str:
    """When a process started, in clock ticks since the machine did; empty if that can't be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return ""
    # Field 22 (proc(5)). The second one is the program's name in parentheses, which may hold anything.
    fields = stat.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


# A forked process is in the same place, unless it changes its user: run_as_user starts another program for that.
os.register_at_fork(after_in_child=_place.cache_clear)
