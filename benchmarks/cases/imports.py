"""What a DAG file pays for its imports, over ``airflow.sdk``."""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

from benchmarks.meters import settle

#: What talks to a service; none of it is needed to parse a DAG.
_CLIENTS = {"tencentcloud", "qcloud_cos", "boto3", "botocore", "aiobotocore", "aiohttp", "httpx", "requests"}


def main(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the case.

    :param parameters: ``modules``; none for all operators, sensors and triggers of this provider.
    """
    import airflow.configuration
    import airflow.sdk
    import airflow.triggers.base  # noqa: F401

    modules = parameters["modules"] or _ours()
    before = set(sys.modules)
    settle()
    begun = time.process_time()
    for module in modules:
        importlib.import_module(module)
    seconds = time.process_time() - begun
    new = set(sys.modules) - before
    return {
        "ms": round(1000 * seconds, 2),
        "modules": len(new),
        "clients": sorted({name.partition(".")[0] for name in new} & _CLIENTS),
    }


def _ours() -> list[str]:
    from airflow_provider_tcbatch.get_provider_info import get_provider_info

    info = get_provider_info()
    entries = [entry for kind in ("operators", "sensors", "triggers") for entry in info.get(kind, [])]
    return [module for entry in entries for module in entry["python-modules"]]
