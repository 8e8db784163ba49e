"""Batch: jobs, compute environments and task templates."""

from __future__ import annotations

from collections import Counter

from airflow_provider_tcbatch.emulator.batch.envs.entities import ComputeEnv
from airflow_provider_tcbatch.emulator.batch.jobs.entities import Job
from airflow_provider_tcbatch.emulator.batch.machine.capacity import Capacity
from airflow_provider_tcbatch.emulator.batch.machine.monitor import Monitor
from airflow_provider_tcbatch.emulator.batch.machine.processes import Watchdog
from airflow_provider_tcbatch.emulator.batch.templates.entities import Template
from airflow_provider_tcbatch.emulator.cmq.service import CmqService
from airflow_provider_tcbatch.emulator.cos.store import ObjectStore
from airflow_provider_tcbatch.emulator.host import Host


class BatchService:
    """The state of Batch.

    :param host: what it stands on.
    :param topics: where events go.
    :param objects: where packages and inputs come from, outputs and logs go to.
    :param watchdog: cleans up after a killed emulator.
    """

    def __init__(self, host: Host, topics: CmqService, objects: ObjectStore, watchdog: Watchdog) -> None:
        self.host = host
        self.topics = topics
        self.objects = objects
        self.watchdog = watchdog
        self.reset()

    def reset(self) -> None:
        """Forget everything; what was spawned has been stopped."""
        host = self.host
        self.capacity = Capacity(lambda: host.settings.capacity)
        #: By id, oldest first, as all that follow.
        self.jobs: dict[str, Job] = {}
        self.envs: dict[str, ComputeEnv] = {}
        self.templates: dict[str, Template] = {}
        #: Job or environment id, digest of the request and time by ClientToken.
        self.job_tokens: dict[str, tuple[str, str, float]] = {}
        self.env_tokens: dict[str, tuple[str, str, float]] = {}
        #: How often a reason of the setting cvm_failures was given, by its key and text.
        self.failures_used: Counter[tuple[str, str]] = Counter()
        self.monitor = Monitor(host)
