from __future__ import annotations

import pytest

from airflow_provider_tcbatch.exceptions import NotFound
from airflow_provider_tcbatch.hooks.cmq import CmqHook


@pytest.fixture
def hook(connection: str) -> CmqHook:
    return CmqHook(connection)


def test_a_chain_is_set_up_used_and_taken_down(hook: CmqHook) -> None:
    assert hook.ensure_topic("chain")
    assert hook.ensure_queue("chain-q", visibility_timeout=60)
    assert hook.ensure_subscription("chain", "chain-q")
    assert not hook.ensure_topic("chain"), "what exists is left as it is"
    assert not hook.ensure_queue("chain-q")
    assert not hook.ensure_subscription("chain", "chain-q")

    hook.publish("chain", "hello")
    messages = hook.receive("chain-q", wait=3)
    assert [message.body for message in messages] == ["hello"]
    hook.delete("chain-q", messages)
    assert hook.receive("chain-q", wait=0) == []
    assert hook.describe_queue("chain-q").visibility_timeout == 60

    assert hook.remove_subscription("chain", "chain-q")
    assert hook.remove_queue("chain-q")
    assert hook.remove_topic("chain")
    assert not hook.remove_queue("chain-q"), "what is gone is no error"
    with pytest.raises(NotFound):
        hook.describe_queue("chain-q")
