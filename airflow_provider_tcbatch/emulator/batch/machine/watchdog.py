"""A small process that outlives the emulator just long enough to clean up after it.

A process that is killed by SIGKILL cannot stop its children. This one reads the ids of the running process groups from
a pipe (``+123`` for a new one, ``-123`` for one that ended); when the pipe closes, however the emulator ended, it kills
what is left and removes the emulator's temporary folder, if it was given one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable


def watch(lines: Iterable[str], temporary: str) -> None:
    """Follow ``lines`` to their end, then clean up."""
    groups: set[int] = set()
    for line in lines:
        number = int(line[1:])
        if line[0] == "+":
            groups.add(number)
        else:
            groups.discard(number)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    if temporary:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    # Ctrl-C in a terminal reaches the emulator, which ends in its own order; this process must not end before it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watch(sys.stdin, sys.argv[1] if len(sys.argv) > 1 else "")
