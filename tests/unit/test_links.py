from __future__ import annotations

import inspect
import logging
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from airflow.sdk import BaseOperator
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetXCom, XComResult
from airflow.sdk.types import TaskInstanceKey
from airflow.utils.state import TaskInstanceState

from airflow_provider_tcbatch import links
from airflow_provider_tcbatch.get_provider_info import get_provider_info

LINKS = [getattr(links, name) for name in links.__all__]
KEY = TaskInstanceKey("a_dag", "submit", "manual", 1, 4)


class Comms:
    """As much of the way to Airflow as a link uses: XComs of one task instance, by key."""

    def __init__(self, xcoms: dict[str, Any]) -> None:
        self._xcoms = xcoms

    def send(self, message: GetXCom) -> XComResult:
        mine = (message.dag_id, message.task_id, message.run_id, message.map_index) == ("a_dag", "submit", "manual", 4)
        return XComResult(key=message.key, value=self._xcoms.get(message.key) if mine else None)


@pytest.mark.parametrize("link", LINKS)
def test_a_button_leads_to_what_its_task_stored(link: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    comms = Comms({other.key: f"https://console/{other.key}" for other in LINKS})
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    operator = BaseOperator(task_id="submit")
    assert link().get_link(operator, ti_key=KEY) == f"https://console/{link.key}"
    assert link().xcom_key == link.key, "the UI looks where the operator stores it"


@pytest.mark.parametrize("link", LINKS)
def test_without_an_address_there_is_no_button(link: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms({}), raising=False)
    assert link().get_link(BaseOperator(task_id="submit"), ti_key=KEY) == ""


def test_no_two_buttons_are_alike() -> None:
    assert len({link.name for link in LINKS}) == len({link.key for link in LINKS}) == len(LINKS)


def test_airflow_is_told_of_every_button() -> None:
    told = {path.rpartition(".")[2] for path in get_provider_info()["extra-links"]}
    assert told == set(links.__all__)


#: Every operator and sensor that has buttons.
LINKED = sorted(
    {
        kind
        for group in ("operators", "sensors")
        for integration in get_provider_info()[group]
        for module in integration["python-modules"]
        for _, kind in inspect.getmembers(import_module(module), inspect.isclass)
        if kind.__module__ == module
        and kind.__name__.startswith("TCBatch")
        and getattr(kind, "operator_extra_links", ())
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("state", [TaskInstanceState.DEFERRED, TaskInstanceState.SUCCESS])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("kind", LINKED, ids=lambda kind: kind.__name__)
def test_a_worker_that_winds_up_asks_airflow_for_nothing(
    kind: type[BaseOperator], mapped: bool, state: TaskInstanceState, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=asked.append), raising=False)
    operator = kind.__new__(kind)
    BaseOperator.__init__(operator, task_id="submit")
    assert operator.operator_extra_links, "the UI learns of them from the stored DAG"
    if mapped:  # Airflow makes the operator itself as late as in the worker, and only runs it
        operator.pre_execute({})
    else:
        operator = operator.prepare_for_execution()
    ti = SimpleNamespace(task=operator, start_date=None, end_date=None, **KEY._asdict())
    task_runner.finalize(ti, state, {}, structlog.wrap_logger(logging.getLogger("task")))
    assert asked == [], "no XCom is looked up, none is stored: neither a 404 nor an empty row"
