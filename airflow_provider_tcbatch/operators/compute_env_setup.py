"""Set-up and tear-down of a compute environment that a part of a DAG runs on.

DAGs use them by :func:`airflow_provider_tcbatch.resources.compute_environment`, which wires them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import InvalidRequest, NotFound
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.operators._base.compute_env_waiting import Pause
from airflow_provider_tcbatch.operators._base.object_argument import known_later
from airflow_provider_tcbatch.operators._base.operator import flag
from airflow_provider_tcbatch.operators._base.setup_teardown import FollowsSetUp, will_send
from airflow_provider_tcbatch.operators.compute_env import TCBatchCreateComputeEnvOperator
from airflow_provider_tcbatch.operators.compute_env_actions import RemovesEnv

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_tcbatch.execution.compute_env.creation import EnvCreation, EnvSpec
    from airflow_provider_tcbatch.execution.compute_env.sharing import Pair, Sharing

__all__ = ["ON_TEARDOWN", "TCBatchSetUpComputeEnvOperator", "TCBatchTearDownComputeEnvOperator"]

#: What a tear-down may do.
ON_TEARDOWN = ("delete", "scale_to_zero", "keep")


class TCBatchSetUpComputeEnvOperator(TCBatchCreateComputeEnvOperator):
    """Make a compute environment for a part of a DAG, and wait until its nodes run.

    The environment's name is ``EnvName``, of at most 40 characters, followed by twelve hex digits that stand for
    deployment, DAG, run, task and map index (without the run, if runs share it). So each run has its own, and its
    tear-down finds it whatever became of the set-up.

    XComs: as for :class:`~airflow_provider_tcbatch.operators.compute_env.TCBatchCreateComputeEnvOperator`;
    ``tcbatch_env_uses``: where runs share one, the environments that this run uses.

    :param teardown_task_id: task id of the tear-down.
    :param shared_by: ids of the DAGs whose runs share one environment, or ``True`` for the DAG's own; empty if every
        run has its own. A shared one is not removed by a set-up that fails or is killed: others may use it. Its
        tear-down sees to it.
    :param renames: ``False`` where environments can't be renamed; see :mod:`airflow_provider_tcbatch.resources`.
    """

    def __init__(
        self, *, teardown_task_id: str, shared_by: Sequence[str] | bool = (), renames: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.teardown_task_id = teardown_task_id
        self.shared_by = _sharers(self, shared_by)
        self.renames = flag("renames", renames, self.task_id)
        if self.shared_by:
            self.cancel_on_failure = self.cancel_on_kill = False

    @property
    def pair(self) -> Pair:
        """This task and its tear-down."""
        from airflow_provider_tcbatch.execution.compute_env.sharing import Pair

        return Pair(self.task_id, self.teardown_task_id, self.shared_by)

    def _spec(self, context: Context) -> EnvSpec:
        from airflow_provider_tcbatch.policies.compute_env.sharing import name_for

        spec = super()._spec(context)
        owner = self.pair.owner(spec.owner)
        env = spec.env.model_copy(update={"env_name": name_for(spec.env.env_name, owner)})
        return replace(spec, env=env, owner=owner, name_tells=True)

    def _creation(self, context: Context, spec: EnvSpec) -> EnvCreation:
        if not self.shared_by:
            return super()._creation(context, spec)
        from airflow_provider_tcbatch.execution.airflow_context import owner_of
        from airflow_provider_tcbatch.execution.compute_env.sharing import SharedCreation, Sharing

        sharing = Sharing(self.hook, context, self.pair, owner_of(context), renames=self.renames)
        return SharedCreation(**self._creation_arguments(context, spec), sharing=sharing)

    def _before_creation(self, context: Context) -> None:
        will_send(context)
        super()._before_creation(context)


class TCBatchTearDownComputeEnvOperator(FollowsSetUp, RemovesEnv):
    """Take away what a set-up has made.

    It finds the environment by its name, which tells the owner, so the set-up need not have lived to name it. Where
    several runs share one, it is deleted by the one after which nobody uses it.

    XCom: ids of the environments that it took away (return value).

    :param setup_task_id: task id of the set-up.
    :param on_teardown: ``delete``; ``scale_to_zero``, which keeps it without nodes; or ``keep``. (templated)
    :param shared_by: as for the set-up.
    :param renames: as for the set-up.
    :param force: destroy nodes also while something runs on them: it fails.
    :raises ComputeEnvTimeout: if it was not gone within ``timeout``.
    """

    template_fields: Sequence[str] = ("on_teardown", "tencentcloud_conn_id", "region")

    def __init__(
        self,
        *,
        on_teardown: str = "delete",
        shared_by: Sequence[str] | bool = (),
        renames: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.on_teardown = on_teardown
        self.shared_by = _sharers(self, shared_by)
        self.renames = flag("renames", renames, self.task_id)
        if not known_later(on_teardown):
            self._choice()

    @property
    def pair(self) -> Pair:
        """The set-up and this task."""
        from airflow_provider_tcbatch.execution.compute_env.sharing import Pair

        return Pair(self.setup_task_id, self.task_id, self.shared_by)

    def execute(self, context: Context) -> list[str]:
        """Take away what is there and nobody uses."""
        with permanent_errors():
            return self._tear_down(context, self.began, [])

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[str]:  # type: ignore[override]
        """Go on after the triggerer has waited."""
        if event["status"] == "again":
            self._began, self._outage = float(event["since"]), event.get("outage")
            self.tell_outage(self._outage)
            with permanent_errors():
                return self._tear_down(context, self.began, list(event["done"]))
        super().execute_complete(context, event)
        carried = event["carried"]
        with permanent_errors():
            # There may be another one: a set-up that was killed twice at the wrong moments leaves two.
            return self._tear_down(context, float(carried["since"]), [*carried["done"], carried["env_id"]])

    def advance(self, context: Context, carried: Mapping[str, Any], event: Mapping[str, Any] | None) -> Pause | None:
        """Go one step further."""
        if self._choice() == "delete":
            return super().advance(context, carried, event)
        env_id = str(carried["env_id"])
        self.hook.empty_step(env_id, force=self.force)
        now = self.look(env_id)
        if now is None or (not now.desired and all(node.attached for node in now.nodes or ())):
            return None
        return self.until_nodes_go(carried, now)

    def words_for_wait(self, carried: Mapping[str, Any]) -> str:
        return f"The {'deletion' if self._choice() == 'delete' else 'emptying'} of {carried['env_id']}"

    def _tear_down(self, context: Context, since: float, done: list[str]) -> list[str]:
        """Take away one after the other.

        :param done: those that this try has taken away already.
        """

        from airflow_provider_tcbatch.policies.compute_env.sharing import let_go

        if self._choice() == "keep":
            self.log.info("Everything is kept (on_teardown='keep')")
            return done

        def may_go(env_id: str) -> bool:
            return not self.shared_by or self._sharing(context).run(let_go(env_id))

        again = {"status": "again", "since": since, "outage": self._outage, "done": done}
        for env_id in self.patiently(partial(self._present, context, known=bool(done)), again):
            if env_id in done:
                continue
            if not self.patiently(partial(may_go, env_id), {**again, "done": done}):
                self.log.info("Compute environment %s is left to its other users", env_id)
                continue
            self.announce(context, env_id)
            self.go_on(context, {"env_id": env_id, "since": since, "errors": 0, "done": done})
            done = [*done, env_id]
        return done

    def _present(self, context: Context, *, known: bool) -> list[str]:
        """Environments that there are.

        :param known: whether there is nothing to wait for that may not be listed yet.
        """
        from airflow_provider_tcbatch.execution.airflow_context import owner_of
        from airflow_provider_tcbatch.execution.compute_env.sharing import envs_of
        from airflow_provider_tcbatch.policies.compute_env.sharing import belongs

        owner = self.pair.owner(owner_of(context))
        told = self.from_setup(context, "env_id")

        def look() -> list[str]:
            found = [view.env_id for view in envs_of(self.hook, owner)]
            if told and told not in found:
                try:
                    view = self.hook.describe_compute_env(told)
                except NotFound:
                    return found
                if belongs(view.env_name, owner) and not view.next_action:
                    found.append(told)
            return found

        return self.wait_for_list(context, look, known=known or told is not None)

    def _sharing(self, context: Context) -> Sharing:
        from airflow_provider_tcbatch.execution.airflow_context import owner_of
        from airflow_provider_tcbatch.execution.compute_env.sharing import Sharing

        return Sharing(self.hook, context, self.pair, owner_of(context), renames=self.renames)

    def _choice(self) -> str:
        if self.on_teardown not in ON_TEARDOWN:
            raise InvalidRequest(
                f"Task {self.task_id!r}: on_teardown is {self.on_teardown!r}; write {', '.join(ON_TEARDOWN)}"
            )
        if self.on_teardown == "scale_to_zero" and self.shared_by:
            raise InvalidRequest(
                f"Task {self.task_id!r}: on_teardown='scale_to_zero' would take the nodes from under the next run that "
                "finds the environment; write delete or keep where runs share one"
            )
        return self.on_teardown


def _sharers(task: BaseOperator, shared_by: Sequence[str] | bool) -> tuple[str, ...]:
    """Ids of the DAGs that share, in order; empty if nobody does."""
    if isinstance(shared_by, bool):
        return (task.dag_id,) if shared_by else ()
    dag_ids = (shared_by,) if isinstance(shared_by, str) else tuple(sorted(set(shared_by)))
    if dag_ids and task.dag_id not in dag_ids:
        raise InvalidRequest(
            f"Task {task.task_id!r}: shared_by is {list(dag_ids)}; name all DAGs that share, the same ones in each, "
            f"this one ({task.dag_id!r}) too"
        )
    return dag_ids
