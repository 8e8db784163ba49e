"""What Tencent prints as a sample is accepted as it is printed, by the emulator and when a DAG is parsed."""

from __future__ import annotations

import importlib
import json
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

import pytest
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch import models
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.models.request import Action
from tests.conformance.conftest import QUICK, credential, profile

VERSION = "2017-03-12"


def nested(lines: list[str]) -> Any:
    """``A.B.0.C=x`` as nested objects and lists; numbers stay text, as they are sent."""
    root: dict[str, Any] = {}
    for line in lines:
        path, _, value = line.partition("=")
        *parents, last = path.split(".")
        place = root
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = unquote(value)

    def listed(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value and all(name.isdigit() for name in value):
            return [listed(value[name]) for name in sorted(value, key=int)]
        return {name: listed(item) for name, item in value.items()}

    return listed(root)


def request_of(text: str) -> Any:
    """The parameters of a sample: a body of JSON, or one parameter a line."""
    if text.startswith("POST"):
        return json.loads(text[text.index("{") :])
    return nested([line[1:] for line in text.splitlines() if line.startswith("&") and "=" in line])


def samples() -> Iterator[Any]:
    """Every sample request of the command line tool that is installed."""
    path = files("tccli") / "services" / "batch" / f"v{VERSION.replace('-', '')}" / "examples.json"
    for action, examples in json.loads(path.read_text(encoding="utf-8"))["actions"].items():
        for number, example in enumerate(examples):
            yield pytest.param(action, request_of(example["input"]), id=f"{action}-{number}")


def actions() -> dict[str, type[Action[Any]]]:
    """The provider's request classes by name."""
    for module in pkgutil.iter_modules(models.__path__):
        importlib.import_module(f"{models.__name__}.{module.name}")
    found: dict[str, type[Action[Any]]] = {}
    waiting: list[type[Action[Any]]] = [Action]
    while waiting:
        for cls in waiting.pop().__subclasses__():
            waiting.append(cls)
            found[cls.name()] = cls
    return found


#: Samples of the product's pages and of users that follow them, in this project's words and values: a job's priority
#: and a network's flag as text, an image that is left for the reader to fill in.
WRITTEN = {
    "priority as text, no image": {
        "JobName": "FirstJob",
        "JobDescription": "to try it",
        "Priority": "1",
        "Tasks": [
            {
                "TaskName": "Task1",
                "Application": {"DeliveryForm": "LOCAL", "Command": "echo 1"},
                "ComputeEnv": {"EnvType": "MANAGED", "EnvData": {"InstanceType": "S1.SMALL1", "ImageId": ""}},
                "RedirectInfo": {
                    "StdoutRedirectPath": "cos://examples-1250000000.cosgz.myqcloud.com/out/",
                    "StderrRedirectPath": "cos://examples-1250000000.cosgz.myqcloud.com/out/",
                },
            }
        ],
    },
    "a flag as text, a name of two words": {
        "JobName": "first job",
        "Tasks": [
            {
                "TaskName": "task A",
                "TaskInstanceNum": "2",
                "Application": {"DeliveryForm": "LOCAL", "Command": "echo 1"},
                "ComputeEnv": {
                    "EnvData": {
                        "InstanceType": "S2.SMALL1",
                        "InternetAccessible": {"PublicIpAssigned": "TRUE", "InternetMaxBandwidthOut": "50"},
                        "SystemDisk": {"DiskType": "CLOUD_BASIC", "DiskSize": "50"},
                    }
                },
                "RedirectInfo": {"StdoutRedirectPath": "cos://out-1250000000.cos.accelerate.myqcloud.com/logs/"},
            }
        ],
    },
}


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[[str, Any], Any]]:
    """Sends a request to an emulator of the region whose zone it names."""
    running: dict[str, Emulator] = {}

    def send(action: str, params: Any) -> Any:
        zones = [item["Values"][0] for item in params.get("Filters", ()) if item["Name"] == "zone"]
        zone = params.get("Placement", {}).get("Zone") or next(iter(zones), "ap-guangzhou-3")
        region = zone.rpartition("-")[0]
        if region not in running:
            running[region] = Emulator(QUICK.updated({"mode": "simulate"}), region=region)
            running[region].start()
        own = running[region]
        return CommonClient("batch", VERSION, credential(own), region, profile(own)).call_json(action, params)

    yield send
    for emulator in running.values():
        emulator.stop()


@pytest.mark.parametrize(("action", "params"), list(samples()))
def test_the_emulator_takes_every_sample(ask: Callable[[str, Any], Any], action: str, params: Any) -> None:
    code = ""
    try:
        ask(action, params)
    except TencentCloudSDKException as refusal:
        code = str(refusal.get_code())
    # The things that it names belong to whoever wrote it.
    assert code.partition(".")[0] in ("", "ResourceNotFound"), code


@pytest.mark.parametrize(("action", "params"), list(samples()))
def test_every_sample_can_be_parsed(action: str, params: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about hosts of COS that it should not name
        wire = actions()[action].parse(params).to_wire()
    assert wire.keys() == params.keys()


@pytest.mark.parametrize("name", WRITTEN)
def test_what_users_write_after_them(ask: Callable[[str, Any], Any], name: str) -> None:
    job = WRITTEN[name]
    assert ask("SubmitJob", {"Placement": {"Zone": "ap-guangzhou-3"}, "Job": job})["Response"]["JobId"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wire = Job.parse(job).to_wire()
    assert wire["Tasks"][0]["TaskName"] == job["Tasks"][0]["TaskName"]  # type: ignore[index]
    assert ask("SubmitJob", {"Placement": {"Zone": "ap-guangzhou-3"}, "Job": wire})["Response"]["JobId"]
