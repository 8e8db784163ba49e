from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import greenback
import pytest
from jinja2 import UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from airflow_provider_tcbatch.triggers import in_triggerer
from airflow_provider_tcbatch.triggers.in_triggerer import NotHere, render


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
