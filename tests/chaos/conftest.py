"""An orderly end whatever ends the session, and one table of all storms."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

#: What a storm counted, and how much there was.
Verdict = dict[str, float]

_VERDICTS = pytest.StashKey[list[Verdict]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make room for what the storms count."""
    config.stash[_VERDICTS] = _Verdicts()


class _Verdicts(list[Verdict]):
    """Each is written down at once, where the environment says so: a night of storms may be broken off."""

    def append(self, verdict: Verdict) -> None:
        super().append(verdict)
        if results := os.environ.get("CHAOS_RESULTS"):
            with Path(results).open("a") as file:
                file.write(json.dumps(verdict) + "\n")


@pytest.fixture
def verdicts(pytestconfig: pytest.Config) -> list[Verdict]:
    """What all storms of this session have counted."""
    return pytestconfig.stash[_VERDICTS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the storms have counted."""
    found = config.stash[_VERDICTS]
    if not found:
        return
    terminalreporter.section("storms")
    names = list(found[0])
    rows = [names, *([f"{verdict[name]:g}" for name in names] for verdict in found)]
    if len(found) > 1:
        sums = [f"{sum(verdict[name] for verdict in found):g}" for name in names]
        rows.append(["all", *sums[1:]])
    for row in rows:
        terminalreporter.write_line(
            "".join(cell.rjust(max(5, len(name) + 2)) for cell, name in zip(row, names, strict=True))
        )


@pytest.fixture(scope="session", autouse=True)
def _end_in_good_order() -> Iterator[None]:
    """A request to end becomes an orderly end of the session: no process of a storm stays."""

    def leave(number: int, frame: FrameType | None) -> None:
        pytest.exit(f"ended by signal {number}", returncode=128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
