"""A pytest plugin for tests of DAGs: the fixture ``tencent_batch`` is Tencent Cloud Batch on this machine.

pytest finds the plugin by itself once the package is installed. The emulator, which needs the extra ``emulator``, is
imported when a test asks for the fixture, and started once per test session; every test finds it as if newly started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator import Emulator, EmulatorInfo, Settings
    from airflow_provider_tcbatch.emulator.server import FaultControl
    from airflow_provider_tcbatch.emulator.services import Services

CONNECTION_VARIABLE = "AIRFLOW_CONN_TENCENTCLOUD_DEFAULT"

#: A test is not to wait for machines that are not there.
_PACE = {"submitted_seconds": 0.0, "starting_seconds": 0.0, "terminate_seconds": 0.0, "cmq_name_block_seconds": 0.0}


class TencentBatch:
    """What the fixture ``tencent_batch`` is.

    :param emulator: the running emulator.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    @property
    def info(self) -> EmulatorInfo:
        """Addresses, key pair, region, and the names of the topic and the bucket that exist from the start."""
        return self._emulator.info

    @property
    def faults(self) -> FaultControl:
        """Trouble on demand, for instance ``tencent_batch.faults.add("drop", action="SubmitJob", count=1)``."""
        return self._emulator.faults

    def configure(self, **settings: Any) -> Settings:
        """Change the emulator's settings until the end of the test.

        :raises SettingsError: for an unknown name or an impossible value.
        """
        return self._emulator.configure(**settings)

    def job_ids(self) -> list[str]:
        """Ids of the jobs that were submitted, oldest first."""
        return self._emulator.on_loop(lambda services: list(services.batch.jobs))

    def job_id(self) -> str:
        """Id of the one job that was submitted.

        :raises AssertionError: when there is none or there are several.
        """
        ids = self.job_ids()
        assert len(ids) == 1, f"there are {len(ids)} jobs, not one: {ids}"
        return ids[0]

    def request(self, job_id: str) -> dict[str, Any]:
        """The SubmitJob request that a job was made by, as it arrived.

        :raises KeyError: when there is no such job.
        """
        return self._emulator.on_loop(lambda services: services.batch.jobs[job_id].request)

    def state(self, job_id: str) -> str:
        """A job's state as the API spells it.

        :raises KeyError: when there is no such job.
        """
        return self._emulator.on_loop(lambda services: services.batch.jobs[job_id].state)

    def wait_job(self, job_id: str, timeout: float = 30.0) -> str:
        """Wait for a job to end.

        :param timeout: seconds.
        :return: its state.
        :raises KeyError: when there is no such job.
        :raises TimeoutError: when it takes longer.
        """
        return self._emulator.wait_job(job_id, timeout)

    async def await_job(self, job_id: str, timeout: float = 30.0) -> str:
        """Like :meth:`wait_job`, for tests that run on an event loop."""
        return await asyncio.to_thread(self.wait_job, job_id, timeout)

    def calls(self, action: str) -> int:
        """How often an action was called in this test, whatever the answer."""

        def count(services: Services) -> int:
            return sum(
                number for name, number in services.host.calls.counts.items() if name.partition(".")[2] == action
            )

        return self._emulator.on_loop(count)

    def put_object(self, key: str, data: bytes, bucket: str | None = None) -> None:
        """Store an object in COS, by default in the bucket that exists from the start."""
        # The store may be used from any thread, unlike everything else.
        self._emulator.services.cos.store.put(bucket or self.info.bucket, key, data)

    def get_object(self, key: str, bucket: str | None = None) -> bytes:
        """The contents of an object in COS.

        :raises KeyError: when there is no such object or bucket.
        """
        from airflow_provider_tcbatch.emulator.errors import CosError

        try:
            return self._emulator.services.cos.store.get(bucket or self.info.bucket, key)
        except CosError as error:
            raise KeyError(str(error)) from None


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "tencent_batch(**settings): settings of the emulator behind the fixture tencent_batch"
    )


@pytest.fixture(scope="session")
def _tencent_batch_emulator() -> Iterator[Emulator]:
    """The emulator of this test session."""
    try:
        from airflow_provider_tcbatch.emulator import Emulator, Settings
    except ImportError as error:
        raise pytest.UsageError(
            f"the fixture tencent_batch needs the extra: pip install 'airflow-provider-tcbatch[emulator]' ({error})"
        ) from error
    with Emulator(Settings.model_validate(_PACE)) as emulator:
        yield emulator


@pytest.fixture
def tencent_batch(
    _tencent_batch_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[TencentBatch]:
    """Tencent Cloud Batch, CMQ and COS as if newly started, behind the connection ``tencentcloud_default``."""
    emulator = _tencent_batch_emulator
    monkeypatch.setenv(CONNECTION_VARIABLE, emulator.info.airflow_conn_json)
    for marker in reversed(list(request.node.iter_markers("tencent_batch"))):
        emulator.configure(**marker.kwargs)
    yield TencentBatch(emulator)
    # Ends what the test left running.
    emulator.reset()
