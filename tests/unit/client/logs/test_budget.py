from __future__ import annotations

import pytest

from airflow_provider_tcbatch.client.logs.budget import ALONE, SHARED, LineBudget, LineLimits, Room
from airflow_provider_tcbatch.client.logs.cursor import Lines, cut_at

LIMITS = LineLimits(lines=10, line_burst=100, size=1000, size_burst=10_000)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def room(clock: Clock, lines: int = 1_000) -> Room:
    return Room(LineLimits(lines=100, line_burst=lines, size=10_000, size_burst=100_000), clock)


def test_what_may_come_at_once_and_later(clock: Clock) -> None:
    budget = LineBudget(LIMITS, clock=clock)
    assert budget.left() == (100, 10_000)
    budget.take(100, 500)
    assert budget.left() == (0, 9_500)
    clock.now = 2.0
    assert budget.left() == (20, 10_000)
    assert budget.left(among=3) == (7, 3_334)
    clock.now = 1_000.0
    assert budget.left() == (100, 10_000)


def test_many_together_show_no_more_than_all_may(clock: Clock) -> None:
    together = room(clock)
    waits = [LineBudget(LIMITS, lambda: 0, together=together, clock=clock) for _ in range(100)]
    shown = []
    for budget in waits:
        lines, _ = budget.left()
        budget.take(lines, lines)
        shown.append(lines)
    assert shown[:10] == [100] * 10
    assert shown[10:] == [20] * 90, "what is sure to everybody"
    clock.now = 10.0
    for budget in waits:
        lines, _ = budget.left()
        budget.take(lines, lines)
        shown.append(lines)
    assert sum(shown) <= 1_000 + 10 * 100 + 2 * 100 * 20


def test_while_the_log_is_behind_only_what_is_sure_is_added(clock: Clock) -> None:
    behind = 0
    budget = LineBudget(SHARED, lambda: behind, together=room(clock), clock=clock)
    assert budget.left()[0] == SHARED.line_burst
    behind = 1_000
    assert budget.left()[0] == 20


def test_who_is_alone_has_more() -> None:
    assert ALONE.line_burst > SHARED.line_burst
    assert LineBudget().left() == (ALONE.line_burst, ALONE.size_burst)


@pytest.mark.parametrize(
    ("data", "lines", "size", "shown"),
    [
        (b"a\nb\nc\n", 2, 100, b"b\nc\n"),
        (b"a\nb\nc", 2, 100, b"b\nc"),
        (b"a\nb\nc\n", 9, 100, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 9, 4, b"b\nc\n"),
        (b"a\nb\nc\n", 9, 3, b"c\n"),
        (b"a\nb\nc\n", 0, 100, b""),
        (b"abcdef", 5, 3, b"def"),
        (b"abcdef\n", 5, 3, b"ef\n"),
        (b"", 5, 3, b""),
        (b"\n\n\n", 2, 100, b"\n\n"),
    ],
)
def test_the_last_lines(data: bytes, lines: int, size: int, shown: bytes) -> None:
    assert data[cut_at(data, lines, size) :] == shown


def test_a_progress_bar_is_looked_at_from_near_its_end() -> None:
    data = b"".join(b"\r%d%%" % (number % 100) for number in range(50_000)) + b"\n"
    kept = data[cut_at(data, 100, len(data)) :]
    assert len(kept) <= 4096
    assert Lines().feed(kept)[-1] == "99%"
