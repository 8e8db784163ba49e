from __future__ import annotations

import subprocess
import sys

from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger

from airflow_provider_tcbatch.get_provider_info import get_provider_info
from airflow_provider_tcbatch.queues.tencent_cmq import TencentCmqMessageQueueProvider
from airflow_provider_tcbatch.triggers.message import CmqMessageTrigger

#: Airflow finds its providers in a process in which nobody has common.messaging.
WITHOUT = """
import logging, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("airflow.providers.common.messaging.providers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
from airflow.providers_manager import ProvidersManager
manager = ProvidersManager()
print("queues", manager.queue_class_names)
print("hooks", "tencentcloud" in manager.hooks)
print("provider", "airflow-provider-tcbatch" in manager.providers)
"""


def test_message_queue_trigger_finds_it_by_its_scheme() -> None:
    trigger = MessageQueueTrigger(scheme="tencent+cmq", queue_name="orders", region="ap-beijing")
    assert isinstance(trigger.trigger, CmqMessageTrigger)
    assert trigger.serialize() == CmqMessageTrigger(queue_name="orders", region="ap-beijing").serialize()


def test_it_is_the_only_one_of_that_scheme() -> None:
    [path] = get_provider_info()["queues"]
    assert path == f"{TencentCmqMessageQueueProvider.__module__}.{TencentCmqMessageQueueProvider.__qualname__}"
    assert TencentCmqMessageQueueProvider().scheme_matches("tencent+cmq")
    assert not TencentCmqMessageQueueProvider().scheme_matches("sqs")
    assert not TencentCmqMessageQueueProvider().queue_matches("https://sqs.example/1/orders")


def test_airflow_does_without_it_where_common_messaging_is_missing() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=120, check=True)
    lines = done.stdout.splitlines()
    assert "queues []" in lines
    assert "hooks True" in lines
    assert "provider True" in lines
    assert "Exception when importing" not in done.stdout + done.stderr
