"""Compute environments: what can be had, why nodes failed, and getting rid of them."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence

from airflow_provider_tcbatch.exceptions import ConfigurationError, NotFound, ResourceBusy, TCBatchError
from airflow_provider_tcbatch.hooks.batch_envs import ComputeEnvMethods
from airflow_provider_tcbatch.models.env_views import ComputeEnvView
from airflow_provider_tcbatch.policies.advice import lacks_stock
from airflow_provider_tcbatch.policies.env_nodes import EnvNow, env_now, removable
from airflow_provider_tcbatch.policies.env_report import env_report, failed_nodes
from airflow_provider_tcbatch.policies.instance_types import InstanceTypeCheck, check_types, offer_of

__all__ = ["ComputeEnvCare"]

log = logging.getLogger(__name__)

#: Most activities that are read to explain a failure: the newest.
_ACTIVITIES = 300


class ComputeEnvCare(ComputeEnvMethods):
    """What takes more than one call about compute environments."""

    def find_compute_envs(self, name: str) -> list[ComputeEnvView]:
        """Environments of exactly this name that are not being deleted."""
        found = self.describe_compute_envs(filters={"env-name": [name]})
        # Whether the filter wants the whole name is not documented.
        return [view for view in found if view.env_name == name and not view.next_action]

    def check_instance_types(
        self, zone: str | None, types: Sequence[str], *, charge_type: str = "POSTPAID_BY_HOUR", alternatives: int = 3
    ) -> list[InstanceTypeCheck]:
        """Say which instance types can be had in a zone, and what to take instead of the others.

        :param zone: availability zone; ``None`` for the connection's.
        :param types: instance types.
        :param charge_type: ``POSTPAID_BY_HOUR`` or ``SPOTPAID``, which differ in price.
        :param alternatives: how many alternatives to name: of the same size or larger, the cheapest first.
        :returns: one check for each type, in order.
        :raises ConfigurationError: if no zone is given anywhere.
        """
        zone = zone or self.settings.zone
        if not zone:
            raise ConfigurationError(
                f"No zone: name one, or set field zone of connection {self.tencentcloud_conn_id!r}"
            )
        items = self.instance_type_offers({"zone": [zone], "instance-charge-type": [charge_type]})
        return check_types(types, map(offer_of, items), zone=zone, alternatives=alternatives)

    def explain_compute_env(self, env_id: str, *, zone: str | None = None) -> str:
        """Say how an environment is, which of its nodes failed and why, and what to change.

        :param zone: zone in which to look for other instance types; default is the environment's.
        """
        url = self.settings.env_url(env_id)
        try:
            view = self.describe_compute_env(env_id)
        except NotFound:
            return env_report(env_id, None, None, [], url=url)
        now = env_now(view)
        try:
            activities = list(itertools.islice(self.describe_compute_env_activities(env_id), _ACTIVITIES))
        except TCBatchError as error:
            log.warning("The activities of compute environment %s can't be read: %s", env_id, error)
            activities = []
        failed = failed_nodes(now, activities)
        hints: list[str] = []
        if any(lacks_stock(node.reason) for node in failed):
            hints = self._stock(env_id, zone or (view.placement.zone if view.placement else None))
        return env_report(env_id, view.env_name, now, failed, hints=hints, url=url)

    def _stock(self, env_id: str, zone: str | None) -> list[str]:
        """What the service says about the types that an environment asks for; nothing where that can't be read."""
        try:
            data = self.describe_compute_env_create_info(env_id).env_data
            types = [] if data is None else list(data.instance_types or filter(None, [data.instance_type]))
            charge = (data and data.instance_charge_type) or "POSTPAID_BY_HOUR"
            return [f"Stock: {check}." for check in self.check_instance_types(zone, types, charge_type=charge)]
        except TCBatchError as error:
            log.info("What can be had can't be read: %s", error)
            return []

    # -- getting rid of an environment -----------------------------------------------------------------

    def remove_step(self, env_id: str, *, force: bool = False) -> EnvNow | None:
        """Do what can be done now to delete an environment: scale it to zero, or delete it when it is empty.

        The service deletes no environment with nodes, destroys no node that is being made, and takes no node on which
        something runs: so this has to be called again until it is done. Instances of the user's own are let go.

        :param force: destroy also nodes on which something runs.
        :returns: the environment as it was before; ``None`` if it does not exist any more.
        """
        try:
            now = env_now(self.describe_compute_env(env_id))
            if not now.deleting:
                self._towards_deletion(env_id, now, force=force)
        except NotFound:
            return None
        except ResourceBusy as error:
            log.info("Compute environment %s takes no change now: %s", env_id, error)
        return now

    def remove_compute_env(self, env_id: str, *, patience: float, force: bool = False) -> EnvNow | None:
        """Delete an environment with its nodes.

        :param patience: seconds to go on.
        :returns: the environment as it is then; ``None`` if it does not exist any more.
        """
        begun = time.monotonic()
        while (now := self.remove_step(env_id, force=force)) is not None:
            age = time.monotonic() - begun
            if age >= patience:
                return now
            time.sleep(min(5.0, max(0.5, age / 4)))
        return None

    def _towards_deletion(self, env_id: str, now: EnvNow, *, force: bool) -> None:
        nodes = now.nodes or ()
        if own := [node.instance_id for node in nodes if node.attached]:
            log.info("Instances %s leave compute environment %s; they go on running", ", ".join(own), env_id)
            self.detach_instances(env_id, own)
        if now.desired > 0:
            self._shrink(env_id, now, force=force)
        elif not nodes:
            self.delete_compute_env(env_id)
            log.info("Compute environment %s is being deleted", env_id)
        elif left := removable(now, busy=force):
            # Nodes that are left although it shall have none.
            self.terminate_compute_nodes(env_id, left)

    def _shrink(self, env_id: str, now: EnvNow, *, force: bool) -> None:
        """Lower the number of nodes, to zero or as far as it goes."""
        try:
            self.modify_compute_env(env_id, desired_compute_node_count=0)
            log.info("Compute environment %s is scaled to zero", env_id)
            return
        except ResourceBusy as error:
            if "NotEnoughComputeNodesToTerminate" not in error.code:
                raise
            log.info("Not all nodes of compute environment %s can go now: %s", env_id, error)
        free = removable(now, busy=force)
        if force and free:
            self.terminate_compute_nodes(env_id, free)
        elif free and (left := now.desired - len(free)) > 0:
            self.modify_compute_env(env_id, desired_compute_node_count=left)
            log.info("Compute environment %s is scaled to %d until its other nodes can go", env_id, left)
