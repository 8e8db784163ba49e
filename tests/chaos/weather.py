"""Doing what a plan says, second by second, and writing down what was done."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.facts import ActRecord
from tests.chaos.plan import Act, Clear, Plan, Work
from tests.chaos.stack import AffectedProcesses, ChaosStack

#: Seconds between two looks whether a part of Airflow has to be started again.
LOOK = 1.0

#: Acts that the service's own control interface takes; while it stands still, they wait.
CONTROLLED = ("outage", "throttled", "events", "lost_answers", "slow_answers", "revoked")


def fault_of(act: Act) -> dict[str, Any]:
    """The emulator's fault that an act is."""
    if act.kind == "throttled":
        return {"kind": "throttle", "service": act.target, **act.options}
    if act.kind == "lost_answers":
        return {"kind": "lose_answer", "service": "batch", "action": act.target, **act.options}
    if act.kind == "slow_answers":
        return {"kind": "slow_answer", "service": act.target, **act.options}
    if act.kind == "outage":
        return {"service": act.target, **act.options}
    return dict(act.options)  # events


@dataclass
class Weather:
    """The acts of one storm.

    :param stack: whom they meet.
    :param plan: what there is to do.
    """

    stack: ChaosStack
    plan: Plan
    records: list[ActRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.plan.seed)
        self._steps: list[tuple[float, int, str, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._thaws: float | None = None
        for act in self.plan.acts:
            self._add(act.at, act.kind, lambda act=act: self._begin(act))  # type: ignore[misc]

    def blow(self, began: float) -> None:
        """Do all acts; returns when the last is over and the length of the storm has passed.

        :param began: ``time.monotonic()`` when the storm began.
        """
        while self._steps or time.monotonic() < began + self.plan.length:
            at = self._steps[0][0] if self._steps else self.plan.length
            wait = began + at - time.monotonic()
            if wait > 0:
                self.keep_up()
                time.sleep(min(LOOK, wait))
            elif self._steps:
                _, _, kind, step = heapq.heappop(self._steps)
                if self._thaws is not None and kind in CONTROLLED:
                    self._add(self._thaws, kind, step)
                else:
                    step()

    def keep_up(self) -> None:
        """Start the parts of Airflow again that have ended by themselves."""
        now = time.time()
        for part in self.stack.revive():
            self.records.append(ActRecord("revived", part, now, time.time()))

    def _add(self, at: float, kind: str, step: Callable[[], None]) -> None:
        heapq.heappush(self._steps, (at, next(self._numbers), kind, step))

    def _begin(self, act: Act) -> None:
        began = time.time()
        affected, end = self._do(act)

        def over() -> None:
            end()
            self.records.append(ActRecord(act.kind, act.target, began, time.time(), affected.note, affected.tries))

        self._add(act.until, act.kind, over)

    def _do(self, act: Act) -> tuple[AffectedProcesses, Callable[[], None]]:
        """Begin an act; whom it met, and how it ends."""
        stack = self.stack
        if act.kind == "killed":
            return stack.kill(act.target, self._dice), lambda: stack.start(act.target)
        if act.kind == "stopped":
            return stack.freeze(act.target, self._dice), lambda: stack.thaw(act.target)
        if act.kind == "frozen":
            stack.freeze_service()
            self._thaws = act.until + 0.01
            return AffectedProcesses("", frozenset()), self._thaw_service
        if act.kind == "revoked":
            return AffectedProcesses(f"{stack.sts('revoke', 'POST')['revoked']} key pairs", frozenset()), lambda: None
        fault_id = stack.service.control("faults", method="POST", body=fault_of(act))["id"]
        note = " ".join(f"{name}={value}" for name, value in fault_of(act).items())
        return AffectedProcesses(note, frozenset()), lambda: stack.service.control(
            f"faults/{fault_id}", method="DELETE"
        )

    def _thaw_service(self) -> None:
        self.stack.thaw_service()
        self._thaws = None


class Users(threading.Thread):
    """Users trigger runs and clear tasks, and try again when Airflow does not answer.

    :param stack: whose Airflow it is.
    :param plan: what there is to do.
    """

    def __init__(self, stack: ChaosStack, plan: Plan) -> None:
        super().__init__(name="users", daemon=True)
        self._api = stack.airflow.api
        self._began = 0.0
        self._early = plan.early
        late = [work for work in plan.work if work not in plan.early]
        self._todo: list[Work | Clear] = sorted([*late, *plan.clears], key=lambda one: one.at)
        self._dags = {work.run_id: work.dag_id for work in plan.work}
        self._over = threading.Event()
        self.records: list[ActRecord] = []

    def before(self) -> None:
        """Do what is to be under way when the storm begins."""
        for work in self._early:
            self._do(work)

    def go_on(self, began: float) -> None:
        """Do the rest, beside whoever calls this.

        :param began: ``time.monotonic()`` when the storm began.
        """
        self._began = began
        self.start()

    def run(self) -> None:
        """What this thread does."""
        for one in self._todo:
            if self._over.wait(max(0.0, self._began + one.at - time.monotonic())):
                return
            while not self._over.is_set() and not self._do(one):
                self._over.wait(LOOK)

    def stop(self) -> None:
        """Leave undone what has not been done."""
        self._over.set()
        if self.is_alive():
            self.join()

    def _do(self, one: Work | Clear) -> bool:
        """Do it, unless Airflow does not answer."""
        began = time.time()
        try:
            note = self._trigger(one) if isinstance(one, Work) else self._clear(one)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                return False
            note = "was there: the answer was lost"
        except httpx.HTTPError:
            return False
        kind = "trigger" if isinstance(one, Work) else "clear"
        self.records.append(ActRecord(kind, f"{self._dags[one.run_id]}/{one.run_id}/job", began, time.time(), note))
        return True

    def _trigger(self, work: Work) -> str:
        body = {"logical_date": None, "dag_run_id": work.run_id, "conf": {"seconds": work.seconds}}
        self._api.request("POST", f"dags/{work.dag_id}/dagRuns", json=body)
        return f"{work.seconds:g} s"

    def _clear(self, clear: Clear) -> str:
        dag_id = self._dags[clear.run_id]
        state = self._api.task_instance(dag_id, clear.run_id, "job")["state"]
        self._api.clear(dag_id, clear.run_id, "job")
        return f"was {state}"
