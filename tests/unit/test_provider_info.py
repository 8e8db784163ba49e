from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import airflow
import jsonschema
import pytest

import airflow_provider_tcbatch
from airflow_provider_tcbatch.connection.settings import FIELDS
from airflow_provider_tcbatch.get_provider_info import get_provider_info

pytestmark = [pytest.mark.oldest, pytest.mark.middle]

INFO = get_provider_info()
SCHEMA = Path(airflow.__file__).parent / "provider_info.schema.json"


def test_airflows_schema_accepts_it() -> None:
    jsonschema.validate(INFO, json.loads(SCHEMA.read_text()))


def test_it_names_the_distribution_it_came_from() -> None:
    """Airflow refuses to start its providers if the two differ."""
    distribution = importlib.metadata.distribution(INFO["package-name"])
    assert distribution.version == airflow_provider_tcbatch.__version__
    [entry] = [e for e in distribution.entry_points if e.group == "apache_airflow_provider"]
    assert entry.load()() == INFO


def test_everything_it_names_can_be_imported() -> None:
    modules = [
        m for kind in ("operators", "hooks", "triggers") for entry in INFO[kind] for m in entry["python-modules"]
    ]
    classes = [*INFO["extra-links"], *INFO["cli"], *(entry["hook-class-name"] for entry in INFO["connection-types"])]
    for module in modules:
        importlib.import_module(module)
    for path in classes:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("kind", ["operators", "triggers", "sensors"])
def test_every_module_with_something_for_a_dag_is_named(kind: str) -> None:
    package = Path(airflow_provider_tcbatch.__file__).parent
    public = re.compile(rf"^class (TCBatch\w+|CmqMessage){kind.removesuffix('s').capitalize()}\b", re.MULTILINE)
    present = {
        f"airflow_provider_tcbatch.{kind}.{path.stem}"
        for path in (package / kind).glob("*.py")
        if public.search(path.read_text())
    }
    named = {module for entry in INFO.get(kind, []) for module in entry["python-modules"]}
    assert present == named


def test_every_link_is_named() -> None:
    from airflow.sdk import BaseOperatorLink

    from airflow_provider_tcbatch import links

    present = {
        f"{links.__name__}.{name}" for name in links.__all__ if issubclass(getattr(links, name), BaseOperatorLink)
    }
    assert present == set(INFO["extra-links"])


def test_the_connection_form_has_every_field_and_hides_the_token() -> None:
    [connection] = INFO["connection-types"]
    assert sorted(connection["conn-fields"]) == sorted(FIELDS)
    assert connection["conn-fields"]["token"]["schema"]["format"] == "password"


@pytest.mark.parametrize(
    ("option", "default"), [("deployment_id", ""), ("api_patience", "3600"), ("explain_timeout", "30")]
)
def test_airflow_knows_the_options(option: str, default: str) -> None:
    words = [sys.executable, "-m", "airflow", "config", "get-value", "tcbatch", option]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True, env=os.environ)
    assert done.stdout.splitlines()[-1:] == [default], "the default is known"


def airflow_cli(*words: str) -> str:
    command = [sys.executable, "-m", "airflow", *words, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=os.environ)
    return done.stdout


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("hooks", "airflow_provider_tcbatch.hooks.tencent_cloud.TencentCloudHook"),
        ("links", "airflow_provider_tcbatch.links.TCBatchJobLink"),
        ("list", "airflow-provider-tcbatch"),
    ],
)
def test_airflow_shows_the_provider(command: str, shown: str) -> None:
    assert shown in airflow_cli("providers", command)


def test_airflow_shows_the_provider_in_full() -> None:
    assert "event_topic" in airflow_cli("providers", "get", "airflow-provider-tcbatch", "--full")
