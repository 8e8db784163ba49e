"""Every error code that the emulator gives, as the client raises it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_tcbatch import emulator as emulator_package
from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.api import ApiClient, ApiSettings
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.cmq import queues, topics
from tests.support import refused_env_requests, refused_requests
from tests.support.documented_errors import DOCUMENTED
from tests.support.in_process import STRICT
from tests.support.refused_requests import Params, Refused, World, as_is

#: By the whole code, or its part before the dot.
CLASSES: dict[str, tuple[type[e.ApiError], bool]] = {
    "AllowedOneAttributeInEnvIdAndComputeEnv": (e.InvalidRequest, False),
    "AuthFailure": (e.PermissionDenied, False),
    "FailedOperation.CmqBackendError": (e.InfrastructureError, False),
    "FailedOperation.CreateSubscription": (e.ApiError, False),
    "FailedOperation.MaxMessageSizeError": (e.InvalidRequest, False),
    "InternalError": (e.InfrastructureError, True),
    "InvalidAction": (e.InvalidRequest, False),
    "InvalidFilter": (e.InvalidRequest, False),
    "InvalidParameter": (e.InvalidRequest, False),
    "InvalidParameterAtLeastOneAttribute": (e.InvalidRequest, False),
    "InvalidParameterValue": (e.InvalidRequest, False),
    "InvalidZone": (e.InvalidRequest, False),
    "LimitExceeded": (e.QuotaExceeded, False),
    "MissingParameter": (e.InvalidRequest, False),
    "NoSuchProduct": (e.InvalidRequest, False),
    "NoSuchVersion": (e.InvalidRequest, False),
    "RequestLimitExceeded": (e.Throttled, True),
    "RequestSizeLimitExceeded": (e.InvalidRequest, False),
    "ResourceInUse": (e.ResourceBusy, False),
    "ResourceNotFound": (e.NotFound, False),
    "UnauthorizedOperation": (e.PermissionDenied, False),
    "UnknownParameter": (e.InvalidRequest, False),
    "UnsupportedOperation": (e.ResourceBusy, False),
    "UnsupportedOperation.AcceptOtherRequest": (e.ResourceBusy, True),
    "UnsupportedOperation.ComputeEnvAcceptOtherRequest": (e.ResourceBusy, True),
    "UnsupportedProtocol": (e.InvalidRequest, False),
    "UnsupportedRegion": (e.InvalidRequest, False),
}

REFUSED = [*refused_requests.REFUSED, *refused_env_requests.REFUSED]
#: Pairs that a request alone provokes.
NATURAL = {(row.action, row.code) for row in REFUSED if row.service == "batch"}
#: All others that are documented: the emulator says them when it is told to.
TOLD = sorted((action, code) for action, codes in DOCUMENTED.items() for code in codes if (action, code) not in NATURAL)
#: Codes of requests that the table above cannot hold, with the function that sends them.
ELSEWHERE = {
    "AuthFailure.InvalidAuthorization",
    "AuthFailure.SecretIdNotFound",
    "AuthFailure.SignatureFailure",
    "AuthFailure.TokenFailure",
    "LimitExceeded",
    "LimitExceeded.Subscriptions",
    "LimitExceeded.Topics",
    "NoSuchVersion",
    "RequestLimitExceeded",
    "UnsupportedProtocol",
    "UnsupportedRegion",
}


@pytest.fixture(scope="module", autouse=True)
def tidied(running_emulator: Emulator) -> Iterator[None]:
    """Nobody after these tests finds what they leave behind."""
    yield
    running_emulator.reset()


@pytest.fixture
def world(emulator: Emulator) -> Iterator[World]:
    emulator.configure(compute_env_quota=1000, task_template_quota=1000, job_quota=10_000, **STRICT)
    yield World(emulator, client_of(emulator))
    emulator.faults.clear()


def client_of(emulator: Emulator, *, region: str | None = None, keys: StaticKeys | None = None) -> ApiClient:
    info = emulator.info
    settings = ApiSettings(
        region=region or info.region,
        endpoints=dict.fromkeys(("batch", "tdmq", "cvm"), info.endpoint),
        limits={},
        share=1.0,
    )
    return ApiClient(keys or StaticKeys(info.secret_id, info.secret_key), settings)


def check(
    emulator: Emulator,
    api: ApiClient,
    action: str,
    code: str,
    params: Params,
    service: str = "batch",
    version: str | None = None,
) -> None:
    """The request is refused with a code, and the client raises what belongs to it."""
    with pytest.raises(e.ApiError) as caught:
        api.call(as_is(action, params, service, version), attempts=1)
    error = caught.value
    kind, retryable = CLASSES.get(code) or CLASSES[code.partition(".")[0]]
    assert error.code == code
    assert type(error) is kind
    assert (error.action, error.retryable) == (action, retryable)
    assert f"{action}: {code}: " in str(error)
    last = emulator.on_loop(lambda services: services.host.calls.as_json()["calls"][-1])
    assert (error.request_id, error.code) == (last["request_id"], last["code"])
    assert error.request_id


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_a_refused_request(world: World, row: Refused) -> None:
    params = row.params if isinstance(row.params, dict) else row.params(world)
    world.emulator.configure(**row.settings)
    check(world.emulator, world.api, row.action, row.code, params, row.service)


@pytest.mark.parametrize(("action", "code"), TOLD)
def test_a_code_that_only_a_fault_brings(world: World, action: str, code: str) -> None:
    fault = {"kind": "error", "service": "batch", "action": action, "code": code, "count": 1}
    info = world.emulator.info
    added = requests.post(
        f"{info.endpoint}/_emulator/faults", json=fault, timeout=5, headers={"X-Emulator-Token": info.control_token}
    )
    assert added.status_code == 201
    check(world.emulator, world.api, action, code, {})


def test_keys_that_are_refused(world: World) -> None:
    emulator = world.emulator
    info, temporary = emulator.info, emulator.issue_token(600)
    for keys, code in (
        (StaticKeys("AKID/1", info.secret_key), "InvalidAuthorization"),
        (StaticKeys("AKIDnobody", info.secret_key), "SecretIdNotFound"),
        (StaticKeys(info.secret_id, "another key"), "SignatureFailure"),
        (StaticKeys(temporary.secret_id, temporary.secret_key, "another token"), "TokenFailure"),
    ):
        check(emulator, client_of(emulator, keys=keys), "DescribeJobs", f"AuthFailure.{code}", {})


def test_where_there_is_no_such_service(world: World) -> None:
    elsewhere = client_of(world.emulator, region="ap-beijing")
    check(world.emulator, elsewhere, "DescribeJobs", "UnsupportedRegion", {})
    check(world.emulator, world.api, "DescribeJobs", "NoSuchVersion", {}, version="2000-01-01")
    # The client sends nothing but JSON.
    world.emulator.faults.add("error", code="UnsupportedProtocol", count=1)
    check(world.emulator, world.api, "DescribeJobs", "UnsupportedProtocol", {})


def test_too_many_requests(world: World) -> None:
    world.emulator.configure(rate_limits="cn")
    # The client would wait for its turn: as many are sent by others who use the account.
    world.emulator.on_loop(
        lambda services: [
            services.host.rates.admit("cn", "batch", "DescribeAvailableCvmInstanceTypes", world.emulator.info.secret_id)
            for _ in range(2)
        ]
    )
    check(world.emulator, world.api, "DescribeAvailableCvmInstanceTypes", "RequestLimitExceeded", {})


def test_too_many_queues_and_topics(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, queue = world.topic(), world.queue()
    monkeypatch.setattr(queues, "MAX_QUEUES", 0)
    monkeypatch.setattr(topics, "MAX_TOPICS", 0)
    monkeypatch.setattr(topics, "MAX_SUBSCRIPTIONS", 0)
    subscription = {"TopicName": topic, "SubscriptionName": "s", "Protocol": "queue", "Endpoint": queue}
    for action, code, params in (
        ("CreateCmqQueue", "LimitExceeded", {"QueueName": "one-more"}),
        ("CreateCmqTopic", "LimitExceeded.Topics", {"TopicName": "one-more"}),
        ("CreateCmqSubscribe", "LimitExceeded.Subscriptions", subscription),
    ):
        check(world.emulator, world.api, action, code, params, "tdmq")


# -- nothing is forgotten --------------------------------------------------------------------------------------

_CODE = re.compile(r"[A-Z][A-Za-z]+(\.[A-Z][A-Za-z]+)?")
_FAMILY = re.compile(
    r"(AuthFailure|FailedOperation|Invalid(Filter|Parameter|ParameterValue|Zone)|LimitExceeded|Resource(NotFound|InUse)"
    r"|UnauthorizedOperation|UnsupportedOperation)(\.[A-Z][A-Za-z]+)?"
)


def codes_in_the_source() -> set[str]:
    """Every literal that is raised as a code, and every other that looks like one."""
    root = Path(emulator_package.__file__).parent
    found: set[str] = set()
    for path in root.rglob("*.py"):
        # COS has codes of its own; what cvm.py names are the reasons of another service.
        if "cos" in path.parts or path.name in ("cvm.py", "errors.py", "cos.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ApiError":
                code = node.args[0]
                if isinstance(code, ast.Constant):
                    assert isinstance(code.value, str)
                    assert _CODE.fullmatch(code.value), code.value
                    found.add(code.value)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _FAMILY.fullmatch(node.value):
                found.add(node.value)
    return found


def test_every_code_in_the_emulators_source_is_provoked() -> None:
    found = codes_in_the_source()
    assert len(found) > 80
    assert found - {row.code for row in REFUSED} - ELSEWHERE == set()


def test_what_only_a_fault_brings() -> None:
    """Everything else that is documented is given by the emulator itself."""
    own = {code for _, code in NATURAL}
    assert {code for _, code in TOLD} - own == {
        "InternalError",
        "InternalError.CallCam",
        "InternalError.CallCpmAPI",
        "InternalError.CallCvm",
        "InternalError.CallTagAPI",
        "InvalidParameterValue.InvalidDataTypeAny",
    }
    assert {(action, code) for action, code in TOLD if code in own} == {
        # A template holds one task, and no dependences.
        ("CreateTaskTemplate", "InvalidParameterValue.DependenceNotFoundTaskName"),
        ("CreateTaskTemplate", "InvalidParameterValue.DependenceUnfeasible"),
        ("ModifyTaskTemplate", "InvalidParameterValue.DependenceNotFoundTaskName"),
        ("ModifyTaskTemplate", "InvalidParameterValue.DependenceUnfeasible"),
        # A code that says more is given in their place.
        ("DeleteComputeEnv", "UnsupportedOperation"),
        ("DeleteJob", "UnsupportedOperation"),
        ("ModifyComputeEnv", "UnsupportedOperation.ComputeNodeForbidTerminate"),
        # Nothing in these requests could be wrong in that way.
        ("DescribeAvailableCvmInstanceTypes", "InvalidParameterValue"),
        ("DescribeCvmZoneInstanceConfigInfos", "InvalidParameterValue"),
        ("DescribeInstanceCategories", "UnsupportedOperation"),
    }
