"""Doing something to compute environments that are there already: changing and deleting them, and their nodes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.log import mask_secret

from airflow_provider_tcbatch.exceptions import InvalidRequest, NotFound, ResourceBusy
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.models.named_env import Instance
from airflow_provider_tcbatch.models.wire import put_secrets_back, to_wire_form
from airflow_provider_tcbatch.operators._base.compute_env_waiting import (
    ActsOnEnv,
    GoOn,
    Pause,
    WaitsForEnv,
    WaitsForNodes,
)
from airflow_provider_tcbatch.operators._base.jobs_waiting import several
from airflow_provider_tcbatch.operators._base.object_argument import known_later, mask_secrets_of
from airflow_provider_tcbatch.operators._base.operator import flag
from airflow_provider_tcbatch.policies.backoff import pace
from airflow_provider_tcbatch.policies.compute_env.nodes import Condition, Until

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

__all__ = [
    "RemovesEnv",
    "TCBatchAttachInstancesOperator",
    "TCBatchDeleteComputeEnvOperator",
    "TCBatchDetachInstancesOperator",
    "TCBatchModifyComputeEnvOperator",
    "TCBatchTerminateComputeNodesOperator",
]


class TCBatchModifyComputeEnvOperator(ActsOnEnv, WaitsForNodes):
    """Change a compute environment: scale it, rename it, let it make other machines; wait until it has its nodes.

    XComs: ``env_id`` (also the return value), ``tcbatch_env``: how many nodes are ``desired``, ``running``, ``failed``,
    ``present`` and ``attached`` at the end.

    :param env_id: id of the environment. (templated)
    :param env_name: its name, instead of ``env_id``. (templated)
    :param desired_compute_node_count: how many nodes it shall have, 0 to 2000. (templated)
    :param new_name: another name. (templated)
    :param env_description: another description. (templated)
    :param instance_types: types for nodes to come, tried in order. (templated)
    :param fail_fast: fail as soon as a node could not be made, or was lost. ``False`` leaves it to the service to make
        it again, until ``timeout``.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the change is accepted, whatever ``deferrable`` says.
        Only a change of the number of nodes is waited for.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks.
    :param timeout: seconds from the beginning of the task after which it has to have its nodes; ``None`` for ever.
    :raises NotFound: if there is no such environment.
    :raises ResourceBusy: if it can't be changed now, and the number of nodes is not waited for. (Nodes that are being
        made, or on which something runs, can't go.)
    :raises ComputeEnvFailed: if nodes can't be made.
    :raises ComputeEnvTimeout: if they did not come, or go, within ``timeout``.
    """

    template_fields: Sequence[str] = (
        *ActsOnEnv.template_fields,
        "desired_compute_node_count",
        "new_name",
        "env_description",
        "instance_types",
    )

    def __init__(
        self,
        *,
        desired_compute_node_count: int | str | XComArg | None = None,
        new_name: str | None = None,
        env_description: str | None = None,
        instance_types: Sequence[str] | XComArg | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.desired_compute_node_count = desired_compute_node_count
        self.new_name = new_name
        self.env_description = env_description
        self.instance_types = instance_types
        if (desired_compute_node_count, new_name, env_description, instance_types) == (None,) * 4:
            raise InvalidRequest(
                f"Task {self.task_id!r}: give at least one of desired_compute_node_count, new_name, env_description "
                "and instance_types"
            )
        if not known_later(desired_compute_node_count):
            self._count()

    def execute(self, context: Context) -> str | None:
        """Ask for the change, and wait for the nodes."""
        with permanent_errors():
            count = self._count()
            carried = self.begin_patiently(context, lambda: self._begin_change(context, count))
            if count is None:
                return str(carried["env_id"])
            until = Until.DESIRED if count else Until.EMPTY
            condition = Condition(until, fail_fast=self.fail_fast and count > 0)
            return self.go_on(context, {**carried, "condition": condition.to_json()})

    def _begin_change(self, context: Context, count: int | None) -> dict[str, Any]:
        carried = self.begin(context)
        try:
            self._modify(carried["env_id"])
        except ResourceBusy as error:
            if count is None or not self.wait_for_completion:
                raise
            self.log.info("The change is refused now, asking again later: %s", error)
        return carried

    def advance(
        self, context: Context, carried: Mapping[str, Any], event: Mapping[str, Any] | None
    ) -> Pause | GoOn | None:
        """Ask again for what was refused; look at the nodes."""
        env_id, count = str(carried["env_id"]), self._count()
        now = self.look(env_id)
        if now is not None and now.desired != count:
            try:
                self._modify(env_id)
            except ResourceBusy as error:
                self.log.info("The change is still refused: %s", error)
                until = time.time() + pace(time.time() - carried["since"], self.poll_interval)
                return Pause(Condition(Until.DELETED), until)
        return super().advance(context, carried, event)

    def _modify(self, env_id: str) -> None:
        from airflow_provider_tcbatch.policies.ownership.marks import described, described_by

        description = self.env_description
        if description is not None:
            # The owner that may stand at its end stays.
            before = self.hook.describe_compute_env_create_info(env_id).env_description or ""
            description = described(description, described_by(before)[1])
        self.hook.modify_compute_env(
            env_id,
            desired_compute_node_count=self._count(),
            env_name=self.new_name,
            env_description=description,
            instance_types=self.instance_types,  # type: ignore[arg-type]
        )

    def _count(self) -> int | None:
        given = self.desired_compute_node_count
        if given is None:
            return None
        number = int(given) if isinstance(given, str) and given.strip().isdigit() else given
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 2000:
            raise InvalidRequest(
                f"Task {self.task_id!r}: desired_compute_node_count is {given!r}; write a number from 0 to 2000"
            )
        return number


class RemovesEnv(WaitsForEnv):
    """Base of operators that delete a compute environment.

    :param force: destroy nodes also while something runs on them: it fails.
    """

    def __init__(self, *, force: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.force = flag("force", force, self.task_id)

    def advance(self, context: Context, carried: Mapping[str, Any], event: Mapping[str, Any] | None) -> Pause | None:
        """Go one step further."""
        return self.remove(carried, force=self.force)

    def words_for_wait(self, carried: Mapping[str, Any]) -> str:
        return f"The deletion of compute environment {carried['env_id']}"


class TCBatchDeleteComputeEnvOperator(RemovesEnv, ActsOnEnv):
    """Delete a compute environment: scale it to zero, wait until its nodes have gone, and delete it.

    The service destroys no node that is being made: those are waited for, and so are those on which something runs.
    Instances of your own that were attached are let go first; they go on running. Fit for a clean-up task with
    ``trigger_rule="all_done"``: where the environment does not exist, or ``env_id`` is an XCom that is not there, there
    is nothing to do.

    XCom: ``env_id`` (also the return value).

    :param env_id: id of the environment. (templated)
    :param env_name: its name, instead of ``env_id``. (templated)
    :param missing_ok: ``False`` to fail if it does not exist.
    :param force: destroy nodes also while something runs on them: it fails.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as it is scaled to zero, as far as that goes: nobody
        deletes it then.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks.
    :param timeout: seconds from the beginning of the task after which it has to be gone; ``None`` for ever.
    :raises NotFound: if it does not exist, with ``missing_ok=False``.
    :raises ComputeEnvTimeout: if it was not gone within ``timeout``.
    """

    def __init__(self, *, missing_ok: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.missing_ok = flag("missing_ok", missing_ok, self.task_id)

    def execute(self, context: Context) -> str | None:
        """Begin to delete it, and wait until it is gone."""
        with permanent_errors():

            def find() -> dict[str, Any]:
                found = self.begin(context)
                self.hook.describe_compute_env(found["env_id"])
                return found

            try:
                carried = self.begin_patiently(context, find)
            except NotFound as error:
                if not self.missing_ok:
                    raise
                self.log.info("There is nothing to delete: %s", error)
                return None
            return self.go_on(context, carried)


class TCBatchTerminateComputeNodesOperator(ActsOnEnv, WaitsForNodes):
    """Destroy nodes of a compute environment, and wait until they have gone; what runs on them fails.

    Whether the environment makes others in their place is not documented: to have fewer nodes, lower their number with
    :class:`TCBatchModifyComputeEnvOperator`. Nodes that have gone, or are going, are left alone.

    XCom: ``env_id`` (also the return value).

    :param env_id: id of the environment. (templated)
    :param env_name: its name, instead of ``env_id``. (templated)
    :param compute_node_ids: the nodes: one id, or several. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the request is accepted, whatever ``deferrable`` says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks.
    :param timeout: seconds from the beginning of the task after which they have to be gone; ``None`` for ever.
    :raises NotFound: if there is no such environment.
    :raises ResourceBusy: if a node can't be destroyed: it is being made, or was attached.
    :raises ComputeEnvTimeout: if they were not gone within ``timeout``.
    """

    template_fields: Sequence[str] = (*ActsOnEnv.template_fields, "compute_node_ids")

    def __init__(self, *, compute_node_ids: str | Sequence[str] | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.compute_node_ids = compute_node_ids

    def execute(self, context: Context) -> str | None:
        """Ask for their ends, and wait for them."""
        with permanent_errors():
            ids = several("compute_node_ids", self.compute_node_ids, str, self.task_id)

            def ask() -> dict[str, Any]:
                found = self.begin(context)
                nodes = self.hook.describe_compute_env(found["env_id"]).compute_node_set or []
                present = [node.compute_node_id for node in nodes if node.compute_node_state != "DELETING"]
                if chosen := [node_id for node_id in ids if node_id in present]:
                    self.hook.terminate_compute_nodes(found["env_id"], chosen)
                return found

            carried = self.begin_patiently(context, ask)
            env_id = carried["env_id"]
            if not ids:
                self.log.warning("compute_node_ids is empty: there is nothing to do")
                return str(env_id)
            condition = Condition(Until.NODES_GONE, ids=frozenset(ids))
            return self.go_on(context, {**carried, "condition": condition.to_json()})

    def words_for_wait(self, carried: Mapping[str, Any]) -> str:
        return f"The end of nodes {', '.join(carried['condition']['ids'])}"


class TCBatchAttachInstancesOperator(ActsOnEnv, WaitsForNodes):
    """Bring CVM instances of your own into a compute environment, and wait until they run as nodes.

    **Their systems are installed anew**: all that is on their system disks is lost. Instances that are nodes of the
    environment already are left alone, so it does no harm to do it twice.

    XCom: ``env_id`` (also the return value).

    :param env_id: id of the environment. (templated)
    :param env_name: its name, instead of ``env_id``. (templated)
    :param instances: at most 100: ids, or :class:`~airflow_provider_tcbatch.models.named_env.Instance` objects or
        dictionaries with ``InstanceId``, ``ImageId`` and ``LoginSettings``. (templated)
    :param fail_fast: fail as soon as one of them is ABNORMAL.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the request is accepted, whatever ``deferrable`` says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks.
    :param timeout: seconds from the beginning of the task after which they have to run; ``None`` for ever.
    :raises NotFound: if there is no such environment.
    :raises ResourceBusy: if an instance can't be attached: it does not run, or belongs to Batch already.
    :raises ComputeEnvFailed: if one of them does not come up.
    :raises ComputeEnvTimeout: if they did not run within ``timeout``.
    """

    template_fields: Sequence[str] = (*ActsOnEnv.template_fields, "instances")

    def __init__(self, *, instances: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.instances = instances
        self._secrets: dict[int, Any] = {}
        if isinstance(instances, (list, tuple)):
            self.instances = [self._kept_apart(number, entry) for number, entry in enumerate(instances)]

    def _kept_apart(self, number: int, entry: Any) -> Any:
        """Wire JSON for the template field, without literal secrets."""
        if isinstance(entry, str) or known_later(entry):
            return entry
        form = to_wire_form(Instance, entry)
        self._secrets[number] = form.secrets
        return form.data

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render as usual; the secrets that this brings are kept out of logs and of rendered fields."""
        rendered = super().render_template(content, *args, **kwargs)
        if content is self.instances and isinstance(rendered, (list, tuple)):
            for entry in rendered:
                mask_secrets_of(Instance, entry)
        return rendered

    def _final(self) -> list[Instance]:
        for secrets in self._secrets.values():
            for secret in secrets.values():
                mask_secret(secret.get_secret_value())
        given = self.instances if isinstance(self.instances, (list, tuple)) else [self.instances]
        wire = [
            {"InstanceId": entry} if isinstance(entry, str) else put_secrets_back(entry, self._secrets.get(number, {}))
            for number, entry in enumerate(given)
        ]
        return [Instance.parse(entry, at=f"Instances[{number}]") for number, entry in enumerate(wire)]

    def execute(self, context: Context) -> str | None:
        """Attach them, and wait until they run."""
        with permanent_errors():
            instances = self._final()

            def ask() -> dict[str, Any]:
                found = self.begin(context)
                nodes = self.hook.describe_compute_env(found["env_id"]).compute_node_set or []
                there = {node.compute_node_instance_id for node in nodes}
                if missing := [instance for instance in instances if instance.instance_id not in there]:
                    self.hook.attach_instances(found["env_id"], missing)
                return found

            carried = self.begin_patiently(context, ask)
            ids = frozenset(instance.instance_id for instance in instances)
            condition = Condition(Until.INSTANCES_RUNNING, ids=ids, fail_fast=self.fail_fast)
            return self.go_on(context, {**carried, "condition": condition.to_json()})

    def words_for_wait(self, carried: Mapping[str, Any]) -> str:
        return f"Nodes of the instances {', '.join(carried['condition']['ids'])}"


class TCBatchDetachInstancesOperator(ActsOnEnv, WaitsForNodes):
    """Take instances of your own out of a compute environment, and wait until they are; they go on running.

    What runs on them for Batch fails. Instances that are no nodes of it are left alone. Fit for a clean-up task: where
    the environment does not exist, there is nothing to do.

    XCom: ``env_id`` (also the return value).

    :param env_id: id of the environment. (templated)
    :param env_name: its name, instead of ``env_id``. (templated)
    :param instance_ids: the instances: one id, or several. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the request is accepted, whatever ``deferrable`` says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks.
    :param timeout: seconds from the beginning of the task after which they have to be out; ``None`` for ever.
    :raises ComputeEnvTimeout: if they were not out within ``timeout``.
    """

    template_fields: Sequence[str] = (*ActsOnEnv.template_fields, "instance_ids")

    def __init__(self, *, instance_ids: str | Sequence[str] | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.instance_ids = instance_ids

    def execute(self, context: Context) -> str | None:
        """Detach them, and wait until they are out."""
        with permanent_errors():
            ids = several("instance_ids", self.instance_ids, str, self.task_id)

            def ask() -> dict[str, Any] | None:
                try:
                    found = self.begin(context)
                    nodes = self.hook.describe_compute_env(found["env_id"]).compute_node_set or []
                except NotFound as error:
                    self.log.info("There is nothing to detach from: %s", error)
                    return None
                there = {node.compute_node_instance_id for node in nodes}
                if attached := [instance_id for instance_id in ids if instance_id in there]:
                    self.hook.detach_instances(found["env_id"], attached)
                return found

            carried = self.begin_patiently(context, ask)
            if carried is None:
                return None
            condition = Condition(Until.INSTANCES_GONE, ids=frozenset(ids))
            return self.go_on(context, {**carried, "condition": condition.to_json()})

    def words_for_wait(self, carried: Mapping[str, Any]) -> str:
        return f"The detachment of the instances {', '.join(carried['condition']['ids'])}"
