from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_tcbatch.client.turns import Turns


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_processes_take_one_piece_of_time_after_the_other() -> None:
    clock = Clock()
    processes = [Turns("pieces", 20, clock) for _ in range(30)]
    begins = [clock.now + process.take().delay for process in processes]
    assert begins[0] == clock.now
    assert all(later - earlier >= 0.0499 for earlier, later in itertools.pairwise(begins[1:]))
    assert begins[-1] - begins[0] <= 30 * 0.055


def test_nobody_waits_who_is_alone() -> None:
    clock = Clock()
    turns = Turns("alone", 2, clock)
    for _ in range(5):
        turn = turns.take()
        assert (turn.delay, turn.queued) == (0.0, False)
        clock.now += 0.6


def test_who_lines_up_is_told() -> None:
    clock = Clock()
    first, second, third = (Turns("line", 20, clock) for _ in range(3))
    assert [turns.take().queued for turns in (first, second, third)] == [False, False, True]


def test_other_rates_have_turns_of_their_own() -> None:
    clock = Clock()
    kept = [Turns(("account", action), 20, clock) for action in ("SubmitJob", "TerminateJob")]
    assert [turns.take().delay for turns in kept] == [0.0, 0.0]


def test_a_turn_that_is_not_used_is_somebody_elses() -> None:
    clock = Clock()
    first, second, third = (Turns("given back", 20, clock) for _ in range(3))
    kept, not_used = first.take(), second.take()
    second.give_back(not_used)
    assert third.take() == not_used
    first.give_back(kept._replace(number=None))
    assert second.take().delay > not_used.delay, "the first one is still taken"


def test_names_show_nothing_of_the_key() -> None:
    turns = Turns("AKIDsecret", 20)
    turns.take()
    names = Path("/proc/net/unix").read_text()
    assert "@tcbatch/" in names
    assert "AKID" not in names


def test_a_process_that_ends_gives_its_pieces_back() -> None:
    script = (
        "from airflow_provider_tcbatch.client.turns import Turns\n"
        "turns = Turns('dead', 20, lambda: 1e6)\n"
        "print([turns.take().delay for _ in range(3)][-1], flush=True)\n"
        "import os; os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert float(ended.stdout) > 0
    assert Turns("dead", 20, lambda: 1e6).take().delay == 0.0


def test_whoever_can_not_take_a_piece_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert Turns("elsewhere", 20).take() == (0.0, False, None)
