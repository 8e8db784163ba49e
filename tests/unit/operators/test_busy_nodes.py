"""Nodes on which something runs: tear-downs and kills leave them alone, whatever the service would do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.execution.compute_env import creation as env_creation
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.policies.compute_env.nodes import Verdict, judge_env
from tests.unit.conftest import job
from tests.unit.operators.test_compute_env import wish
from tests.unit.operators.test_compute_env_setup import Airflow, quick, set_up, tear_down

__all__ = ["quick"]

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(params=[False, True], ids=["refuses busy", "takes busy"], autouse=True)
def takes_busy(request: pytest.FixtureRequest, quick: None, emulator: Emulator) -> None:
    """Whether the service takes busy nodes when an environment shall have fewer: that is not documented."""
    emulator.configure(shrink_busy_nodes=request.param)


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def busy_with(env_id: str) -> str:
    """A job that runs on a node until it is terminated."""
    hook, body = TCBatchHook(), job("sleep 600")
    del body["Tasks"][0]["ComputeEnv"]
    body["Tasks"][0]["EnvId"] = env_id
    job_id = hook.submit_job(body)
    eventually(lambda: state(job_id) == "RUNNING")
    return job_id


def state(job_id: str) -> str:
    return str(TCBatchHook().describe_job(job_id).job_state)


def nodes(env_id: str) -> list[str]:
    return [str(node.compute_node_state) for node in TCBatchHook().describe_compute_env(env_id).compute_node_set or ()]


@pytest.mark.parametrize("on_teardown", ["delete", "scale_to_zero"])
def test_a_tear_down_waits_for_busy_nodes_only(on_teardown: str) -> None:
    airflow = Airflow()
    env_id = airflow.run(set_up(compute_env=wish(2)), "one")
    job_id = busy_with(env_id)
    with pytest.raises(e.ComputeEnvTimeout):
        airflow.run(tear_down(on_teardown=on_teardown, timeout=1), "one")
    assert (nodes(env_id), state(job_id)) == (["RUNNING"], "RUNNING"), "the idle one went"
    TCBatchHook().terminate_job(job_id, patience=60)
    assert airflow.run(tear_down(on_teardown=on_teardown), "one") == [env_id]


def test_scaling_to_zero_by_force_takes_busy_nodes() -> None:
    airflow = Airflow()
    env_id = airflow.run(set_up(), "one")
    job_id = busy_with(env_id)
    assert airflow.run(tear_down(on_teardown="scale_to_zero", force=True, timeout=60), "one") == [env_id]
    assert nodes(env_id) == []
    eventually(lambda: state(job_id) == "FAILED")


def test_scaling_to_zero_takes_nodes_that_are_left_of_an_environment_that_shall_have_none(emulator: Emulator) -> None:
    airflow = Airflow()
    env_id = airflow.run(set_up(), "one")

    def shall_have_none(services: Services) -> None:
        services.batch.envs[env_id].desired = 0

    emulator.on_loop(shall_have_none)
    assert airflow.run(tear_down(on_teardown="scale_to_zero", timeout=60), "one") == [env_id]
    assert nodes(env_id) == []


def test_an_attached_instance_that_is_busy_is_waited_for_and_not_asked_for_without_a_pause() -> None:
    airflow = Airflow()
    env_id = airflow.run(set_up(compute_env=wish(0)), "one")
    TCBatchHook().attach_instances(env_id, [{"InstanceId": "ins-12345678", "ImageId": "img-m4q71qnf"}])
    eventually(lambda: nodes(env_id) == ["RUNNING"])
    job_id = busy_with(env_id)
    pause = tear_down().remove({"env_id": env_id, "since": time.time()})
    assert pause is not None
    now = tear_down().look(env_id)
    assert judge_env(now, pause.condition) is Verdict.WAITING, "only the clock ends this wait"
    assert pause.look_at is not None
    assert state(job_id) == "RUNNING"
    TCBatchHook().terminate_job(job_id, patience=60)
    assert airflow.run(tear_down(), "one") == [env_id]


def test_a_killed_worker_lets_idle_nodes_go_and_no_others() -> None:
    env_id = Airflow().run(set_up(compute_env=wish(2)), "one")
    job_id = busy_with(env_id)
    begun = time.monotonic()
    with pytest.raises(e.ResourceBusy, match="something runs"):
        env_creation._ScalesDown(TCBatchHook()).terminate_job(env_id, patience=1.0)
    assert time.monotonic() - begun < 120, "the job takes ten minutes"
    eventually(lambda: nodes(env_id) == ["RUNNING"])
    assert state(job_id) == "RUNNING"
    TCBatchHook().terminate_job(job_id, patience=60)
    env_creation._ScalesDown(TCBatchHook()).terminate_job(env_id, patience=30.0)
    assert TCBatchHook().describe_compute_env(env_id).desired_compute_node_count == 0
    env_creation._ScalesDown(TCBatchHook()).terminate_job("env-00000000", patience=0.5)
