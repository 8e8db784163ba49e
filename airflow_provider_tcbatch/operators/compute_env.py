"""Making a compute environment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_tcbatch.exceptions import InvalidRequest, TCBatchError
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.named_env import NamedComputeEnv
from airflow_provider_tcbatch.operators._base.compute_env_waiting import WaitsForNodes
from airflow_provider_tcbatch.operators._base.object_argument import TakesObject, known_later
from airflow_provider_tcbatch.operators._base.operator import flag
from airflow_provider_tcbatch.policies.compute_env.nodes import Condition, Until

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

    from airflow_provider_tcbatch.execution.compute_env.creation import EnvCreation, EnvSpec, Found
    from airflow_provider_tcbatch.execution.ownership.kill_switch import KillSwitch
    from airflow_provider_tcbatch.execution.ownership.state_store import Records
    from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow

__all__ = ["TCBatchCreateComputeEnvOperator"]

_CHOICES = ("reuse", "update", "fail")

#: Seconds that a task which fails spends on removing what it made.
REMOVAL_SECONDS = 300.0


class TCBatchCreateComputeEnvOperator(TakesObject, WaitsForNodes):
    """Make a compute environment, and wait until its nodes run.

    It is idempotent by name. One *task* owns one environment: whatever dies, a later try of the task finds the
    environment that an earlier one made, by a record in Airflow's task state store (3.3 and later), the ClientToken, or
    the name and the owner's mark that the environment carries: a tag, or the end of its description where the keys may
    not use tags. A task that fails removes what it made.

    XComs: ``env_id`` as soon as the environment exists (also the return value), ``env_created``: whether this task made
    it, ``tcbatch_env`` at the end: how many nodes are ``desired``, ``running``, ``failed``, ``present``, ``attached``.

    :param compute_env: the environment: a :class:`~airflow_provider_tcbatch.models.named_env.NamedComputeEnv`, a
        dictionary in either spelling, JSON or YAML text, or the path of a ``.yaml``, ``.yml`` or ``.json`` file that is
        looked for where the DAG looks for templates. Jinja may stand anywhere inside. (templated)
    :param zone: availability zone; default is the connection's. (templated)
    :param placement: a whole ``Placement``, instead of ``zone``. (templated)
    :param if_exists: what to do about an environment of this name that another task, or somebody, made: ``reuse`` it as
        it is; ``update`` it: number of nodes, description and instance types, which is what the service can change; or
        ``fail``.
    :param wait_for_nodes: how many nodes have to run; default is as many as the environment shall have. (templated)
    :param fail_fast: fail as soon as nodes could not be made, or were lost, without which there can't be enough.
        ``False`` leaves it to the service to make them again (``ResourceMaxRetryCount``), until ``timeout``.
    :param preflight: before anything is made, ask whether the instance types can be had in the zone, and fail, naming
        others, if none of them can.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the environment exists, whatever ``deferrable`` says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks.
    :param timeout: seconds after which the nodes have to run, from the environment's making, or from the beginning of
        the task if it was there already; ``None`` for ever. Of a task that was cleared, and of nodes that an
        environment is given again, it counts anew.
    :param durable: ``False`` to keep nothing about the environment between tries.
    :param cancel_on_kill: let the nodes of an environment that this task made go when the task is killed on a worker,
        or marked as failed or skipped while it is deferred (the latter on Airflow 3.3 and later).
    :param cancel_on_failure: delete an environment that this task made when the task fails.
    :raises InvalidRequest: if the environment is wrong, or is there already with ``if_exists="fail"``. (No retry.)
    :raises PermissionDenied: if the keys may not do this. (No retry.)
    :raises ComputeEnvFailed: if nodes can't be made; the error names them, the service's reason and what to change.
    :raises ComputeEnvTimeout: if they did not run within ``timeout``.
    """

    argument: ClassVar[str] = "compute_env"
    model: ClassVar[type[ApiModel]] = NamedComputeEnv
    written_as: ClassVar[str] = "a mapping with EnvName in it"
    request_field: ClassVar[str] = "ComputeEnv"
    request_parts: ClassVar[Mapping[str, str]] = MappingProxyType({"Placement": "placement"})

    template_fields: Sequence[str] = (
        "compute_env",
        "zone",
        "placement",
        "wait_for_nodes",
        "tencentcloud_conn_id",
        "region",
    )
    template_fields_renderers = {"compute_env": "json", "placement": "json"}  # noqa: RUF012 - Airflow's own form

    def __init__(
        self,
        *,
        compute_env: NamedComputeEnv | Mapping[str, Any] | str | XComArg,
        zone: str | None = None,
        placement: Mapping[str, Any] | None = None,
        if_exists: str = "reuse",
        wait_for_nodes: int | str | None = None,
        preflight: bool = False,
        durable: bool = True,
        cancel_on_kill: bool = True,
        cancel_on_failure: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if if_exists not in _CHOICES:
            raise InvalidRequest(f"Task {self.task_id!r}: if_exists is {if_exists!r}; write {', '.join(_CHOICES)}")
        self.zone = zone
        self.placement = placement
        self.compute_env = compute_env
        self.take(compute_env)
        self.if_exists = if_exists
        self.wait_for_nodes = wait_for_nodes
        self.preflight = flag("preflight", preflight, self.task_id)
        self.durable = flag("durable", durable, self.task_id)
        self.cancel_on_kill = flag("cancel_on_kill", cancel_on_kill, self.task_id)
        self.cancel_on_failure = flag("cancel_on_failure", cancel_on_failure, self.task_id)
        self._kill_switch: KillSwitch | None = None
        self._killed = False
        self._kept: Records | None = None
        if not known_later(wait_for_nodes):
            self._nodes(None)

    def final_env(self) -> NamedComputeEnv:
        """The environment as it is sent: rendered, with its secrets, checked.

        :raises InvalidRequest: naming what is wrong with it.
        """
        return NamedComputeEnv.parse(self.final_wire(), at="NamedComputeEnv")

    def records(self, context: Context) -> Records:
        """Where this task's record is kept."""
        from airflow_provider_tcbatch.execution.ownership.state_store import ENV_KEY, records_for

        if self._kept is None:
            self._kept = records_for(context, durable=self.durable, key=ENV_KEY)
        return self._kept

    def execute(self, context: Context) -> str | None:
        """See to the environment; wait for its nodes, or leave the waiting to the triggerer."""
        since = self.began
        with permanent_errors():
            carried = self.begin_patiently(
                context,
                lambda: self._start(context, self._spec(context), since),
                env_id=lambda: self.to_let_go(context, None),
            )
            if not self.wait_for_completion:
                self._mark_done(context)
                return str(carried["env_id"])
            return self.go_on(context, carried)

    def _start(self, context: Context, spec: EnvSpec, since: float) -> dict[str, Any]:
        """Come to the environment; what the run carries over its waits.

        :param since: unix seconds from which ``timeout`` counts where the environment was there already.
        """
        from airflow_provider_tcbatch.execution.ownership.state_store import ENV_KEY, warn_of_loss

        warn_of_loss(self.records(context), ENV_KEY)
        self._nodes(spec.env.desired_compute_node_count)
        self.hook.settings.check_pages()  # a wrong template must be found before there is an environment
        if self.preflight:
            self._check_types(spec)
        found = self._settle(context, spec)
        if not found.own:
            # What this task had made, if anything, is gone: a kill is to leave somebody else's alone.
            self._kill_switch, self.cancels = None, False
            self.announce(context, found.env_id)
        push(context, "env_created", found.own)
        wanted = self._nodes(None)
        if wanted is not None and wanted > found.desired:
            raise InvalidRequest(
                f"Compute environment {found.env_id} shall have {found.desired} nodes, so wait_for_nodes={wanted} "
                "can't come true; write if_exists='update' to change it"
            )
        condition = Condition(
            Until.NODES_RUNNING, found.desired if wanted is None else wanted, fail_fast=self.fail_fast
        )
        return {
            "env_id": found.env_id,
            "since": found.since or since,
            "errors": 0,
            "own": found.own,
            "condition": condition.to_json(),
        }

    def to_let_go(self, context: Context, env_id: str | None) -> str | None:
        """The environment that the record names, if there is one: this task made it, whatever it does now."""
        if not self.cancel_on_kill:
            return None
        record = self.records(context).load()
        known = record is not None and record.job_id is not None and not record.done
        return record.job_id if record is not None and known else env_id if self.cancels else None

    def resume(self, context: Context, carried: Mapping[str, Any]) -> None:
        """From now on a killed worker lets the nodes go. Client and keys are there: none are made while it dies."""
        if carried["own"]:
            self._arm(context, str(carried["env_id"]))

    def _arm(self, context: Context, env_id: str) -> None:
        self.cancels = self.cancel_on_kill
        if not self.cancels:
            return
        from airflow_provider_tcbatch.execution.airflow_context import owner_of
        from airflow_provider_tcbatch.execution.compute_env.creation import kill_switch

        ti_id = str(context["ti"].id)
        self._kill_switch = kill_switch(self.hook.apart(), env_id, owner_of(context), ti_id, self.records(context))
        if self._killed:
            # It was killed while the environment was on its way: some of its five seconds are left.
            self._kill_switch.pull()
            self._check_alive()

    def _check_alive(self) -> None:
        """Do not make anything once the task has been killed."""
        if self._killed and self.cancel_on_kill:
            raise TCBatchError(f"Task {self.task_id!r} was killed")

    def reached(self, context: Context, carried: Mapping[str, Any], now: EnvNow | None) -> None:
        super().reached(context, carried, now)
        self._mark_done(context)

    def abandon(self, context: Context, carried: Mapping[str, Any], why: str) -> str:
        """Remove what this task made."""
        env_id = str(carried["env_id"])
        if not carried["own"]:
            return "; it is left as it is: this task did not make it"
        if not self.cancel_on_failure:
            return "; it is left as it is (cancel_on_failure=False)"
        from airflow_provider_tcbatch.policies.ownership.record import Ending

        records = self.records(context)
        record = records.load()
        if record is not None and record.job_id == env_id:
            record = replace(record, ending=Ending(why, time.time()))
            records.save(record)
        try:
            # Not by force: another run may have found it by its name, and have something running on it.
            left = self.hook.remove_compute_env(env_id, patience=REMOVAL_SECONDS)
        except TCBatchError as error:
            return f"; it could not be deleted, and may cost money: {error}"
        if left is not None:
            return f"; its deletion takes longer than {REMOVAL_SECONDS:.0f} s ({left}): look after it"
        if record is not None:
            records.save(replace(record, token="", job_id=None, ending=None))
        return "; it was deleted"

    def on_kill(self) -> None:
        """Let the nodes go if nobody else needs them, in the few seconds that Airflow gives."""
        self._killed = True
        if self._kill_switch is not None:
            self._kill_switch.pull()

    # -- parts -----------------------------------------------------------------------------------------

    def _spec(self, context: Context) -> EnvSpec:
        from airflow_provider_tcbatch.execution.airflow_context import owner_of
        from airflow_provider_tcbatch.execution.compute_env.creation import EnvSpec

        mark = self.hook.settings.mark
        return EnvSpec(self.final_env(), owner_of(context), mark=mark, zone=self.zone, placement=self.placement)

    def _settle(self, context: Context, spec: EnvSpec) -> Found:
        return self._creation(context, spec).settle()

    def _creation(self, context: Context, spec: EnvSpec) -> EnvCreation:
        from airflow_provider_tcbatch.execution.compute_env.creation import EnvCreation

        return EnvCreation(**self._creation_arguments(context, spec))

    def _creation_arguments(self, context: Context, spec: EnvSpec) -> dict[str, Any]:
        from airflow_provider_tcbatch.execution.airflow_context import this_try
        from airflow_provider_tcbatch.execution.compute_env.creation import IfExists

        def known(env_id: str) -> None:
            self.announce(context, env_id)
            self._arm(context, env_id)

        return {
            "hook": self.hook,
            "records": self.records(context),
            "this": this_try(context, self),
            "spec": spec,
            "if_exists": IfExists(self.if_exists),
            "on_env": known,
            "on_record": lambda env_id: self._arm(context, env_id),
            "check": lambda: self._before_creation(context),
        }

    def _before_creation(self, context: Context) -> None:
        """Called right before something is made."""
        self._check_alive()

    def _nodes(self, desired: int | None) -> int | None:
        """``wait_for_nodes`` as a number; ``None`` for as many as there shall be.

        :param desired: how many there shall be, where it is known.
        """
        given = self.wait_for_nodes
        if given is None or (isinstance(given, str) and given.strip() in ("", "None")):
            return None
        number = int(given) if isinstance(given, str) and given.strip().isdigit() else given
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise InvalidRequest(f"Task {self.task_id!r}: wait_for_nodes is {given!r}; write a number from 0")
        if desired is not None and number > desired:
            raise InvalidRequest(
                f"Task {self.task_id!r}: wait_for_nodes is {number}, but DesiredComputeNodeCount is {desired}"
            )
        return number

    def _check_types(self, spec: EnvSpec) -> None:
        from airflow_provider_tcbatch.execution.preflight import check_machines
        from airflow_provider_tcbatch.policies.compute_env.instance_types import machines_of

        machines = machines_of(spec.env.env_data, self.hook.placement(self.zone, self.placement).zone)
        if machines is not None:
            check_machines(self.hook, {"NamedComputeEnv": machines})

    def _mark_done(self, context: Context) -> None:
        records = self.records(context)
        record = records.load()
        if record is not None and not record.done:
            records.save(replace(record, done=True))
