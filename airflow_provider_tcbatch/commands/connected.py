"""Connections as the command line finds them."""

from __future__ import annotations

import os
from typing import TypeVar

from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook

__all__ = ["connected"]

_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"

HookT = TypeVar("HookT", bound=TencentCloudHook)


def connected(hook: HookT) -> HookT:
    """A hook whose connection has been read, from wherever it is kept: also from the database.

    As in Airflow's own ``airflow connections get``, this process has to call itself a server for that.
    """
    before = os.environ.get(_CONTEXT)
    os.environ[_CONTEXT] = "server"
    try:
        _ = hook.settings
        return hook
    finally:
        if before is None:
            del os.environ[_CONTEXT]
        else:
            os.environ[_CONTEXT] = before
