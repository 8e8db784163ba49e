from __future__ import annotations

from airflow_provider_tcbatch.emulator.http.api3 import SERVICES
from airflow_provider_tcbatch.emulator.rates import _PUBLISHED, RateLimiter, limit
from airflow_provider_tcbatch.emulator.schema import schema


def test_published_figures() -> None:
    assert [limit("cn", "batch", action) for action in ("SubmitJob", "DescribeJob", "DescribeJobs")] == [20, 50, 10]
    assert [limit("intl", "batch", action) for action in ("SubmitJob", "DescribeJob", "DescribeJobs")] == [7, 2, 2]
    assert limit("intl", "batch", "DescribeJobMonitorData") == 20
    assert limit("intl", "tdmq", "DescribeCmqQueues") == 20
    assert set(_PUBLISHED) >= set(SERVICES["batch"][1])
    assert set(_PUBLISHED) == set(schema("batch").actions())


def test_a_second_per_action_and_key() -> None:
    now = [100.0]
    limiter = RateLimiter(lambda: now[0])

    def admit(action: str = "TerminateTaskInstance", secret_id: str = "a", site: str = "cn") -> bool:
        return limiter.admit(site, "batch", action, secret_id) is None

    assert [admit() for _ in range(4)] == [True, True, False, False]
    assert admit(secret_id="b")
    assert admit(action="DescribeTaskLogs")
    now[0] += 0.999
    assert not admit()
    now[0] += 0.001
    assert [admit() for _ in range(3)] == [True, True, False]


def test_the_site_may_change() -> None:
    now = [0.0]
    limiter = RateLimiter(lambda: now[0])
    assert all(limiter.admit("cn", "batch", "DescribeJob", "a") is None for _ in range(50))
    assert limiter.admit("intl", "batch", "DescribeJob", "a") == 2
    now[0] += 1
    assert limiter.admit("intl", "batch", "DescribeJob", "a") is None
    assert limiter.admit("cn", "batch", "DescribeJob", "a") is None
