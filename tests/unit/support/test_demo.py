from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import demo
from tests.support.demo import DemoFailed, Waiting


class Stack:
    """An Airflow with a deferred task: at each look so many slots of its pool are taken."""

    def __init__(self, slots: list[int]) -> None:
        self._slots = iter(slots)
        self.api: Any = SimpleNamespace(
            task_instance=lambda *_: {"state": "deferred"}, pool=lambda: {"running_slots": next(self._slots)}
        )

    def busy_workers(self) -> int:
        return 0


def waited(slots: list[int], monkeypatch: pytest.MonkeyPatch) -> Waiting:
    waiting, stack = Waiting(), Stack(slots)
    for second in range(len(slots)):
        monkeypatch.setattr(demo, "time", SimpleNamespace(time=lambda now=float(second): now))
        waiting.look(stack, "run")  # type: ignore[arg-type]
    return waiting


@pytest.mark.parametrize("slots", [[0] * 10, [1] + [0] * 9, [0] * 9 + [1]])
def test_a_wait_that_held_no_worker(slots: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    waited(slots, monkeypatch).check()


@pytest.mark.parametrize("slots", [[1] * 10, [0, 1] + [0] * 8, [0] * 8 + [1, 0]])
def test_a_wait_that_held_one(slots: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DemoFailed, match="a worker was held"):
        waited(slots, monkeypatch).check()
