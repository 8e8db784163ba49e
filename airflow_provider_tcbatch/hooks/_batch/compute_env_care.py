"""Compute environments: what can be had, why nodes failed, and getting rid of them."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_tcbatch import policies
from airflow_provider_tcbatch.exceptions import ConfigurationError, NotFound, ResourceBusy, TCBatchError
from airflow_provider_tcbatch.hooks._batch.compute_envs import ComputeEnvMethods
from airflow_provider_tcbatch.policies.lookup import envs_named

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView
    from airflow_provider_tcbatch.policies.compute_env.instance_types import InstanceTypeCheck
    from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow

__all__ = ["ComputeEnvCare"]

log = logging.getLogger(__name__)

#: Most activities that are read to explain a failure: the newest.
_ACTIVITIES = 300


class ComputeEnvCare(ComputeEnvMethods):
    """What takes more than one call about compute environments."""

    def find_compute_envs(self, name: str) -> list[ComputeEnvView]:
        """Environments of exactly this name that are not being deleted."""
        return envs_named(self.describe_compute_envs(filters={"env-name": [name]}), name)

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
        return policies.compute_env.instance_types.check_types(
            types, map(policies.compute_env.instance_types.offer_of, items), zone=zone, alternatives=alternatives
        )

    def explain_compute_env(self, env_id: str, *, zone: str | None = None) -> str:
        """Say how an environment is, which of its nodes failed and why, and what to change.

        :param zone: zone in which to look for other instance types; default is the environment's.
        """
        url = self.settings.env_url(env_id)
        try:
            view = self.describe_compute_env(env_id)
        except NotFound:
            return policies.compute_env.failure_report.env_report(env_id, None, None, [], url=url)
        now = policies.compute_env.nodes.env_now(view)
        try:
            activities = list(itertools.islice(self.describe_compute_env_activities(env_id), _ACTIVITIES))
        except TCBatchError as error:
            log.warning("The activities of compute environment %s can't be read: %s", env_id, error)
            activities = []
        failed = policies.compute_env.failure_report.failed_nodes(now, activities)
        hints: list[str] = []
        if any(policies.failure_hints.lacks_stock(node.reason) for node in failed):
            hints = self._stock(env_id, zone or (view.placement.zone if view.placement else None))
        return policies.compute_env.failure_report.env_report(env_id, view.env_name, now, failed, hints=hints, url=url)

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

        The service deletes no environment with nodes and destroys no node that is being made, and nodes on which
        something runs are spared: so this has to be called again until it is done. Instances of the user's own leave as
        soon as nothing runs on them.

        :param force: destroy also nodes on which something runs, and let such instances go: it fails.
        :returns: the environment as it was before; ``None`` if it does not exist any more.
        """
        try:
            now = policies.compute_env.nodes.env_now(self.describe_compute_env(env_id))
            if not now.deleting:
                self._towards_deletion(env_id, now, force=force)
        except NotFound:
            return None
        except ResourceBusy as error:
            log.info("Compute environment %s takes no change now: %s", env_id, error)
        return now

    def empty_step(self, env_id: str, *, force: bool = False) -> bool:
        """Do what can be done now to let all nodes of an environment go, but attached ones; see :meth:`remove_step`.

        :param force: destroy also nodes on which something runs: it fails.
        :returns: whether there is nothing more to ask for: its nodes are going, or there are none.
        """
        try:
            now = policies.compute_env.nodes.env_now(self.describe_compute_env(env_id))
            return self._shrink(env_id, now, force=force)
        except NotFound:
            return True

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
        if now.desired == 0 and not now.nodes:
            self.delete_compute_env(env_id)
            log.info("Compute environment %s is being deleted", env_id)
            return
        self._shrink(env_id, now, force=force)
        if own := policies.compute_env.scale_down.detachable(now, force=force):
            self.detach_instances(env_id, own)
            log.info("Instances %s leave compute environment %s; they go on running", ", ".join(own), env_id)

    def _shrink(self, env_id: str, now: EnvNow, *, force: bool) -> bool:
        """Let nodes go, as far as that can be asked for now; whether all are going then."""
        for step in policies.compute_env.scale_down.shrinks(now, force=force):
            try:
                if step.desired is None:
                    self.terminate_compute_nodes(env_id, step.nodes)
                    log.info("Nodes %s of compute environment %s are destroyed", ", ".join(step.nodes), env_id)
                    return False
                self.modify_compute_env(env_id, desired_compute_node_count=step.desired)
                log.info("Compute environment %s is scaled to %d", env_id, step.desired)
                return step.desired == 0
            except ResourceBusy as error:
                # What else there is to do must not wait for this.
                log.info("Not all nodes of compute environment %s can go now: %s", env_id, error)
                if "NotEnoughComputeNodesToTerminate" not in error.code:
                    return False
        return policies.compute_env.scale_down.emptied(now)
