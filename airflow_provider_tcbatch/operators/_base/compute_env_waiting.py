"""Operators on compute environments: finding them, waiting for what comes of a request, and limits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from airflow_provider_tcbatch.exceptions import (
    ApiUnavailable,
    ComputeEnvError,
    ComputeEnvFailed,
    ComputeEnvTimeout,
    InvalidRequest,
    NotFound,
    TCBatchError,
)
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.links import TCBatchComputeEnvLink
from airflow_provider_tcbatch.operators._base.operator import AirflowTaskTimeout, flag
from airflow_provider_tcbatch.operators._base.waiting import WAIT_ERRORS, CanWait
from airflow_provider_tcbatch.policies.arguments import NOTHING
from airflow_provider_tcbatch.policies.backoff import pace
from airflow_provider_tcbatch.policies.compute_env.nodes import Condition, Until, Verdict, env_now, judge_env
from airflow_provider_tcbatch.triggers.compute_env import TCBatchComputeEnvTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

    from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow
    from airflow_provider_tcbatch.policies.deadlines import Limit

__all__ = ["ActsOnEnv", "GoOn", "Pause", "WaitsForEnv", "WaitsForNodes"]


class Pause(NamedTuple):
    """A task is not through yet.

    :param condition: what to wait for.
    :param look_at: unix seconds at which to look again in any case, because there may be something to do.
    :param in_any_case: whether also ``wait_for_completion=False`` has to wait for it.
    """

    condition: Condition
    look_at: float | None = None
    in_any_case: bool = False


class GoOn(NamedTuple):
    """A task goes on at once, with something else: another environment, say.

    :param carried: what the run carries from now on.
    """

    carried: Mapping[str, Any]


class WaitsForEnv(CanWait):
    """Base of operators that wait for a compute environment.

    What a run has to carry over its waits is plain JSON: ``env_id``, ``since`` (unix seconds when it began),
    ``timeout_since`` where ``timeout`` counts from another moment, ``errors``, and what an operator adds.
    """

    operator_extra_links = (TCBatchComputeEnvLink(),)

    #: Whether the trigger lets the nodes go when the user puts an end to the task.
    cancels: bool = False

    # -- what an operator says -------------------------------------------------------------------------

    def advance(
        self, context: Context, carried: Mapping[str, Any], event: Mapping[str, Any] | None
    ) -> Pause | GoOn | None:
        """Look, and do what can be done now; ``None`` if the task is through.

        :param carried: what the run carries over its waits.
        :param event: how the last wait ended, if there was one.
        """
        raise NotImplementedError

    def instead(self, context: Context, carried: Mapping[str, Any], why: str) -> GoOn | None:
        """The task would fail now: what it does instead; ``None`` to let it fail.

        :param why: nodes failed, or a limit is over.
        """
        return None

    def look(self, env_id: str) -> EnvNow | None:
        """The environment as it is now; ``None`` if it does not exist."""
        try:
            return env_now(self.hook.describe_compute_env(env_id))
        except NotFound:
            return None

    def remove(self, carried: Mapping[str, Any], *, force: bool = False) -> Pause | None:
        """Go one step further towards the deletion of the environment; ``None`` if it does not exist any more.

        :param force: destroy nodes also while something runs on them.
        """
        env_id = str(carried["env_id"])
        if self.hook.remove_step(env_id, force=force) is None:
            self.log.info("Compute environment %s is deleted", env_id)
            return None
        now = self.look(env_id)
        if now is None:
            return None
        if now.deleting:
            return Pause(Condition(Until.DELETED))
        return self.until_nodes_go(carried, now)

    def until_nodes_go(self, carried: Mapping[str, Any], now: EnvNow) -> Pause:
        """Wait until the nodes have gone, and look now and then where some can't be asked to go yet."""

        from airflow_provider_tcbatch.policies.compute_env.scale_down import emptied

        own = [node for node in now.nodes or () if not node.attached]
        if own and emptied(now):
            return Pause(Condition(Until.EMPTY))
        # What refuses to go now, may go later: a node does not say when a program on it has ended.
        until = time.time() + pace(time.time() - carried["since"], self.poll_interval)
        # Where only attached ones are left, EMPTY is true already.
        return Pause(Condition(Until.EMPTY if own or not now.nodes else Until.DELETED), until)

    def to_let_go(self, context: Context, env_id: str) -> str | None:
        """The environment whose nodes go if the user puts an end to the task now.

        :param env_id: the one that the task waits for.
        """
        return env_id if self.cancels else None

    def abandon(self, context: Context, carried: Mapping[str, Any], why: str) -> str:
        """The task fails: words for what becomes of the environment."""
        return ""

    # -- a run -----------------------------------------------------------------------------------------

    def announce(self, context: Context, env_id: str) -> None:
        """Tell the id and the console's page at once: whatever comes, they can be looked up."""
        push(context, "env_id", env_id)
        push(context, TCBatchComputeEnvLink.key, self.hook.settings.env_url(env_id))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> str | None:
        """Go on after the triggerer has waited.

        :param event: what :class:`~airflow_provider_tcbatch.triggers.compute_env.TCBatchComputeEnvTrigger` yielded.
        """
        if event["status"] == "again":
            began_again: str | None = self.begin_again(context, event)
            return began_again
        with permanent_errors():
            carried = event["carried"]
            self.resume(context, carried)
            self.tell_outage(event.get("outage"))
            return self.go_on(context, self._heed(context, event, carried), event)

    def resume(self, context: Context, carried: Mapping[str, Any]) -> None:
        """The task goes on in another process."""

    def go_on(self, context: Context, carried: Mapping[str, Any], event: Mapping[str, Any] | None = None) -> str | None:
        """Advance until the task is through; the environment's id."""

        from airflow_provider_tcbatch.policies.deadlines import Limit

        try:
            while (step := self._advance(context, carried, event)) is not None:
                if isinstance(step, GoOn):
                    carried, event = step.carried, None
                    continue
                if not self.wait_for_completion and not step.in_any_case:
                    break
                if event is not None and event["status"] == "timeout":
                    limit = Limit(event["limit"])
                    other = self.instead(context, carried, "timeout") if limit is Limit.TIMEOUT else None
                    if other is None:
                        self.give_up(context, carried, limit)
                    carried, event = other.carried, None
                    continue
                event = self._wait(context, str(carried["env_id"]), step, carried)
                carried = self._heed(context, event, carried)
        except AirflowTaskTimeout:
            # Airflow's own timer for a task on a worker. It strikes once: there is time to clean up.
            words = self.abandon(context, carried, Limit.EXECUTION_TIMEOUT.value)
            self.log.error("execution_timeout is over for compute environment %s%s", carried["env_id"], words)
            raise
        return str(carried["env_id"])

    def _advance(
        self, context: Context, carried: Mapping[str, Any], event: Mapping[str, Any] | None
    ) -> Pause | GoOn | None:
        """Look, and do what can be done now; while the API can't be asked, later."""
        from airflow_provider_tcbatch.policies.deadlines import Limit

        env_id = str(carried["env_id"])
        status = "look" if event is None or event["status"] in ("error", "away") else event["status"]
        resume = {"limit": None, "message": None, **(event or {}), "status": status, "carried": dict(carried)}
        try:
            return self.patiently(
                lambda: self.advance(context, carried, event),
                resume,
                subject=f"Compute environment {env_id} is left as it is. See {self.hook.settings.env_url(env_id)}",
                env_id=lambda: self.to_let_go(context, env_id),
            )
        except ApiUnavailable:
            if status == "timeout":
                self.give_up(context, carried, Limit(resume["limit"]))
            raise

    def give_up(self, context: Context, carried: Mapping[str, Any], limit: Limit) -> NoReturn:
        """Fail: a limit is reached."""

        from airflow_provider_tcbatch.policies.deadlines import Limit

        env_id = str(carried["env_id"])
        length = (
            f"timeout ({self.timeout or 0:.0f} s)"
            if limit is Limit.TIMEOUT
            else f"execution_timeout ({self.execution_timeout} from the beginning of this try)"
        )
        report = self.explain(env_id)
        words = self.abandon(context, carried, limit.value)
        raise ComputeEnvTimeout(
            f"{self.words_for_wait(carried)} did not come true within {length}{words}.\n{report}", env_id=env_id
        )

    def explain(self, env_id: str) -> str:
        """How the environment is, and what failed; what can't be read must not keep anything from being removed."""
        try:
            return self.hook.explain_compute_env(env_id)
        except TCBatchError as error:
            return f"Compute environment {env_id} can't be looked at: {error}"

    def words_for_wait(self, carried: Mapping[str, Any]) -> str:
        """What is waited for, for messages."""
        return "What was waited for"

    def _wait(self, context: Context, env_id: str, pause: Pause, carried: Mapping[str, Any]) -> Mapping[str, Any]:
        deadlines = self.deadlines(context, carried.get("timeout_since", carried["since"]))
        condition = pause.condition
        if self.deferrable:
            trigger = TCBatchComputeEnvTrigger(
                env_id=env_id,
                **condition.to_json(),
                tencentcloud_conn_id=self.tencentcloud_conn_id,
                region=self.region,
                poll_interval=self.poll_interval,
                deadlines=deadlines.to_json(),
                look_at=pause.look_at,
                cancel_on_kill=self.cancels,
                carried={"carried": dict(carried)},
            )
            self.defer(trigger=trigger, method_name="execute_complete")
        from airflow_provider_tcbatch.waits.compute_env import EnvWait
        from airflow_provider_tcbatch.waits.sessions import wait_env_here

        wait = EnvWait(
            env_id,
            condition,
            poll_interval=self.poll_interval,
            deadlines=deadlines,
            look_at=pause.look_at,
            log_line=self.log.info,
        )
        event = wait_env_here(self.hook.settings, wait).to_event()
        self.tell_outage(event.get("outage"))
        return event

    def _heed(self, context: Context, event: Mapping[str, Any], carried: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take note of how a wait ended.

        :raises ComputeEnvError: if waiting has failed too often.
        """
        if event["status"] != "error":
            return carried
        errors, env_id = int(carried["errors"]) + 1, str(carried["env_id"])
        if errors > WAIT_ERRORS:
            raise ComputeEnvError(
                f"Waiting for compute environment {env_id} failed {errors} times, the last time with: "
                f"{event.get('message')}. That says nothing about the environment: it is left as it is. See "
                f"{self.hook.settings.env_url(env_id)}",
                env_id=env_id,
            )
        self.log.warning("Waiting failed; looking again. It was: %s", event.get("message"))
        return {**carried, "errors": errors}


class WaitsForNodes(WaitsForEnv):
    """Base of operators that wait for nodes to run.

    :param fail_fast: fail as soon as nodes could not be made, or were lost, without which it can't come true.
        ``False`` leaves it to the service to make them again (``ResourceMaxRetryCount``), until ``timeout``.
    """

    def __init__(self, *, fail_fast: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fail_fast = flag("fail_fast", fail_fast, self.task_id)

    def condition(self, carried: Mapping[str, Any]) -> Condition:
        """What is waited for."""
        return Condition.from_json(carried["condition"])

    def advance(
        self, context: Context, carried: Mapping[str, Any], event: Mapping[str, Any] | None
    ) -> Pause | GoOn | None:
        condition = self.condition(carried)
        now = self.look(str(carried["env_id"]))
        verdict = judge_env(now, condition)
        if verdict is Verdict.REACHED:
            self.reached(context, carried, now)
            return None
        # What the trigger has read from the API may have passed when the task goes on: the service makes nodes anew.
        if verdict is Verdict.FAILING or (event is not None and event["status"] == Verdict.FAILING.value):
            step = self.instead(context, carried, "nodes failed")
            return step or self._fail(context, carried, ComputeEnvFailed, "nodes failed")
        if verdict is Verdict.GONE:
            words = "it does not exist any more" if now is None else "it is being deleted"
            self._fail(context, carried, ComputeEnvError, words)
        return Pause(condition)

    def reached(self, context: Context, carried: Mapping[str, Any], now: EnvNow | None) -> None:
        """It has come true."""
        counts = None if now is None else now.to_json()
        push(context, "tcbatch_env", counts)
        self.log.info("Compute environment %s: %s", carried["env_id"], now)

    def words_for_wait(self, carried: Mapping[str, Any]) -> str:
        condition = self.condition(carried)
        if condition.until is Until.NODES_RUNNING:
            return f"{condition.nodes} running nodes of compute environment {carried['env_id']}"
        return f"The wanted number of nodes of compute environment {carried['env_id']}"

    def _fail(self, context: Context, carried: Mapping[str, Any], kind: type[ComputeEnvError], why: str) -> NoReturn:
        env_id = str(carried["env_id"])
        # Explained first: what is removed can't be asked any more.
        report = self.explain(env_id)
        words = self.abandon(context, carried, why)
        raise kind(f"{self.words_for_wait(carried)}: {why}{words}.\n{report}", env_id=env_id)


class ActsOnEnv(WaitsForEnv):
    """Base of operators that do something to an environment that is there already.

    :param env_id: id of the environment. (templated)
    :param env_name: its name, instead of ``env_id``. (templated)
    """

    template_fields: Sequence[str] = ("env_id", "env_name", "tencentcloud_conn_id", "region")

    def __init__(
        self, *, env_id: str | XComArg | None = None, env_name: str | XComArg | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.env_id = env_id
        self.env_name = env_name
        if (env_id is None) is (env_name is None):
            raise InvalidRequest(f"Task {self.task_id!r}: give env_id or env_name, and not both")

    def given_id(self) -> str | None:
        """Id of the environment; ``None`` if there is none of that name, or nobody named one.

        :raises InvalidRequest: if the name is that of several.
        """
        if (env_id := _text(self.env_id)) is not None:
            return env_id
        if (name := _text(self.env_name)) is None:
            return None
        found = self.hook.find_compute_envs(name)
        if len(found) > 1:
            ids = ", ".join(view.env_id for view in found)
            raise InvalidRequest(
                f"Task {self.task_id!r}: {len(found)} environments are called {name!r}: name one of {ids}"
            )
        return found[0].env_id if found else None

    def begin(self, context: Context) -> dict[str, Any]:
        """Find the environment; what the run carries over its waits.

        :raises NotFound: if there is none.
        """
        since = self.began
        env_id = self.given_id()
        if env_id is None:
            raise NotFound(f"There is no compute environment {_text(self.env_id) or _text(self.env_name) or '(no id)'}")
        self.announce(context, env_id)
        return {"env_id": env_id, "since": since, "errors": 0}


def _text(value: object) -> str | None:
    text = None if value is None else str(value).strip()
    return None if text is None or text in NOTHING else text
