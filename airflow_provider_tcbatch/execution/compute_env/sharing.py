"""An environment of several runs.

It carries out what :mod:`airflow_provider_tcbatch.policies.compute_env.sharing` decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_tcbatch.exceptions import InvalidRequest, NotFound
from airflow_provider_tcbatch.execution.airflow_context import run_state
from airflow_provider_tcbatch.execution.compute_env.creation import EnvCreation, Found
from airflow_provider_tcbatch.policies.compute_env import sharing
from airflow_provider_tcbatch.policies.ownership.marks import Owner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView

__all__ = ["USES", "Pair", "SharedCreation", "Sharing", "age", "envs_of"]

log = logging.getLogger(__name__)

#: XCom of a set-up: ids of the environments that its run uses.
USES = "tcbatch_env_uses"

#: Seconds that a set-up spends on deleting an environment that turns out not to be needed.
_SURPLUS_SECONDS = 10.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Pair:
    """A set-up and its tear-down.

    :param setup: task id of the set-up.
    :param teardown: task id of the tear-down.
    :param dag_ids: the DAGs whose runs share what it makes; empty if every run has its own.
    """

    setup: str
    teardown: str
    dag_ids: tuple[str, ...] = ()

    def owner(self, this: Owner) -> Owner:
        """Whose the environment is.

        :param this: the task instance that runs, set-up or tear-down.
        """
        if not self.dag_ids:
            return replace(this, task_id=self.setup)
        return Owner(this.deployment, "+".join(self.dag_ids), sharing.SHARED, self.setup)


def envs_of(hook: TCBatchHook, owner: Owner) -> list[ComputeEnvView]:
    """Environments of an owner that are not being deleted, open and closed ones, the oldest first."""
    views = [
        view for view in hook.describe_compute_envs() if sharing.belongs(view.env_name, owner) and not view.next_action
    ]
    return sorted(views, key=age)


def age(view: ComputeEnvView) -> tuple[str, str]:
    """What to sort environments by: the oldest comes first, and all agree about those of one second."""
    return view.create_time or "", view.env_id


class Sharing:
    """One run's side of the sharing of an environment.

    :param hook: for the calls.
    :param context: of the task that runs, set-up or tear-down.
    :param pair: the two tasks.
    :param this: the task instance that runs.
    :param renames: ``False`` where environments can't be renamed: then nothing may run between the look and the
        deletion, for which a pool of one slot sees.
    """

    def __init__(self, hook: TCBatchHook, context: Context, pair: Pair, this: Owner, *, renames: bool = True) -> None:
        self._hook = hook
        self._ti = context["ti"]
        self._pair = pair
        self._this = this
        self._renames = renames

    def run(self, steps: Generator[sharing.Step, Any, _T], perform: Callable[[sharing.Step], Any] | None = None) -> _T:
        """Do what one side wants; what it returns in the end."""
        perform = perform or self.perform
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: _T = end.value
                return result
            answer = perform(step)

    def perform(self, step: sharing.Step) -> Any:
        """Do one step."""
        match step:
            case sharing.Tell(env_ids):
                self._ti.xcom_push(key=USES, value=list(env_ids))
            case sharing.IsOpen(env_id):
                return self._is_open(env_id)
            case sharing.Users(env_id):
                return self._is_used(env_id)
            case sharing.Close(env_id):
                self._close(env_id)
            case _:
                raise NotImplementedError(step)
        return None

    def _is_open(self, env_id: str) -> bool:
        try:
            view = self._hook.describe_compute_env(env_id)
        except NotFound:
            return False
        return not view.next_action and view.env_name != sharing.closed_name(view.env_name or "")

    def _close(self, env_id: str) -> None:
        if not self._renames:
            return
        try:
            name = self._hook.describe_compute_env(env_id).env_name or ""
            if name != sharing.closed_name(name):
                self._hook.modify_compute_env(env_id, env_name=sharing.closed_name(name))
        except NotFound:
            return
        except InvalidRequest as error:
            raise InvalidRequest(
                f"Compute environment {env_id} can't be renamed, which sharing it needs: {error}. What to do: write "
                "renames=False, and give set-up and tear-down a pool of one slot that counts deferred tasks",
                code=error.code,
            ) from error

    def _is_used(self, env_id: str) -> bool:
        this = (self._this.dag_id, self._this.run_id, self._this.map_index)
        for dag_id in self._pair.dag_ids:
            for use in self._uses(dag_id):
                who = (use.dag_id, use.run_id, use.map_index)
                if who == this or not use.is_open:
                    continue
                if sharing.holds(use, self._told(use), env_id) and not self._is_over(use):
                    log.info("Compute environment %s is used by run %s of %s", env_id, use.run_id, use.dag_id)
                    return True
        return False

    def _uses(self, dag_id: str) -> Sequence[sharing.Use]:
        setup, teardown = self._pair.setup, self._pair.teardown
        states = self._ti.get_task_states(dag_id=dag_id, task_ids=[setup, teardown])
        return sharing.uses_of(dag_id, states, setup, teardown)

    def _told(self, use: sharing.Use) -> list[str] | None:
        told: list[str] | None = self._ti.xcom_pull(
            task_ids=self._pair.setup,
            dag_id=use.dag_id,
            key=USES,
            run_id=use.run_id,
            map_indexes=None if use.map_index < 0 else use.map_index,
        )
        return told

    def _is_over(self, use: sharing.Use) -> bool:
        """Whether somebody has put an end to the run, so that its tear-down will never begin."""
        return run_state(self._ti, use.dag_id, use.run_id) in ("success", "failed")


class SharedCreation(EnvCreation):
    """A set-up that comes to an environment which it shares with other runs.

    :param sharing: its side of the sharing.
    """

    shared = True

    def __init__(self, *args: Any, sharing: Sharing, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sharing = sharing

    def settle(self) -> Found:
        """Come to the environment that the runs share.

        :raises TCBatchError: if tear-downs come too often.
        """
        record = self._records.load()
        known = None
        if record is not None:
            record = self._claim(record)
            view = self._recorded(record)
            known = None if view is None else view.env_id
        made: dict[str, Found] = {}

        def perform(step: sharing.Step) -> Any:
            match step:
                case sharing.ListOpen():
                    found = self._hook.find_compute_envs(self._name)
                    return [view.env_id for view in sorted(found, key=age)]
                case sharing.Create():
                    one = self._create()
                    made[one.env_id] = one
                    return one.env_id
            return self._sharing.perform(step)

        env_id, surplus = self._sharing.run(sharing.join(known), perform)
        for other in surplus:
            # Nodes that are being made can't go yet. Then the next tear-down, of whichever run, sees to it.
            left = self._hook.remove_compute_env(other, patience=_SURPLUS_SECONDS)
            log.info(
                "Compute environment %s, which nobody uses, %s", other, "is left for now" if left else "is deleted"
            )
        if env_id in made:
            return made[env_id]
        view = self._hook.describe_compute_env(env_id)
        if record is None or record.job_id != env_id:
            record = self._new_record(view)
        return self._go_on(record, view)
