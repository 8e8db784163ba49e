from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import greenback
import pytest
from jinja2 import UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from airflow_provider_tcbatch.triggers._base import rendering as in_triggerer
from airflow_provider_tcbatch.triggers._base.rendering import NotHere, push_xcoms, render


class TaskInstance:
    """As much of Airflow's in a triggerer: it hangs where a request is not answered."""

    run_id = "manual"

    def xcom_pull(self, task_ids: str, key: str = "return_value", *, map_indexes: int | None = None) -> Any:
        if map_indexes is None:
            greenback.await_(asyncio.Event().wait())
        return {"submit": "job-1", "other": "job-2"}.get(task_ids) if map_indexes == -1 else f"{task_ids} {map_indexes}"


def rendered(text: str) -> str:
    """Text as the trigger gets it."""
    out: list[str] = []

    def by_airflow(context: Any, env: Any) -> None:
        out.append(env.from_string(text).render(context))

    async def in_the_loop() -> None:
        await greenback.ensure_portal()
        ti = TaskInstance()
        context = {"ti": ti, "task_instance": ti, "dag_run": SimpleNamespace(conf={"ids": ["job-0"]})}
        render(by_airflow, context, SandboxedEnvironment())

    asyncio.run(in_the_loop())
    return out[0]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ dag_run.conf.ids[0] }} of {{ ti.run_id }}", "job-0 of manual"),
        ("{{ ti.xcom_pull('submit') }}", "job-1"),
        ("{{ task_instance.xcom_pull(task_ids='submit', key='job_id') }}", "job-1"),
        ("{{ ti.xcom_pull(['submit', 'other']) }}", "['job-1', 'job-2']"),
        ("{{ ti.xcom_pull('mapped', map_indexes=3) }}", "mapped 3"),
    ],
)
def test_what_can_be_rendered(text: str, result: str) -> None:
    assert rendered(text) == result


def test_what_is_not_there() -> None:
    with pytest.raises(UndefinedError, match="idz"):
        rendered("{{ dag_run.conf.idz }}")
    with pytest.raises(NotHere, match="xcom_pull of 'mapped'"):
        rendered("{{ ti.xcom_pull('mapped') }}")
    with pytest.raises(NotHere, match="xcom_pull of None"):
        rendered("{{ ti.xcom_pull() }}")


def test_what_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_triggerer, "_SECONDS", 0.2)
    with pytest.raises(NotHere, match="has not answered"):
        rendered("{{ ti.xcom_pull('submit', map_indexes=none) }}")


class Supervisor:
    """As much of a triggerer's as takes XComs: one at a time, in the order in which they come.

    :param seconds: that each takes.
    """

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.sdk.execution_time.xcom import XCom

        self.seconds = seconds
        self.pushed: list[tuple[str, str]] = []
        self._busy = asyncio.Lock()
        monkeypatch.setattr(XCom, "aset", self._set, raising=False)

    async def _set(self, key: str, value: Any, *, task_id: str, **where: Any) -> None:
        async with self._busy:
            await asyncio.sleep(self.seconds)
        self.pushed.append((task_id, key))


def waits(count: int) -> list[Any]:
    """Task instances."""
    return [SimpleNamespace(dag_id="d", run_id="r", task_id=f"wait_{n}", map_index=-1) for n in range(count)]


async def test_waits_that_end_together_push_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_triggerer, "_SECONDS", 1.5)
    supervisor = Supervisor(0.01, monkeypatch)
    await asyncio.gather(*(push_xcoms(ti, dict.fromkeys("abc")) for ti in waits(60)))
    assert supervisor.pushed == [(ti.task_id, key) for ti in waits(60) for key in "abc"]


async def test_xcoms_that_are_not_taken_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_triggerer, "_SECONDS", 0.2)
    monkeypatch.setattr(in_triggerer, "_IN_TURN", 0.5)
    Supervisor(3600, monkeypatch)
    ends = await asyncio.gather(*(push_xcoms(ti, {"a": 1}) for ti in waits(20)), return_exceptions=True)
    assert all(isinstance(end, NotHere) for end in ends)
    assert {str(end) for end in ends} == {
        "the triggerer has not taken them within 0.2 s",
        "the triggerer has been busy with those of others for 0.5 s",
    }


async def test_a_trigger_that_airflow_is_about_to_end_does_not_wait_for_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervisor = Supervisor(0.2, monkeypatch)
    first, second = (push_xcoms(ti, {"a": 1}, time.time() + left) for ti, left in zip(waits(2), (60, 3), strict=True))
    ends = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(end) for end in ends] == [type(None), NotHere]
    assert supervisor.pushed == [("wait_0", "a")]
