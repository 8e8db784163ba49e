from __future__ import annotations

import pytest

from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.client.cmq import CmqClient, default_endpoint, sign
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import ConfigurationError, InfrastructureError, NotFound, PermissionDenied


@pytest.fixture
def cmq(emulator: Emulator) -> CmqClient:
    info = emulator.info
    return CmqClient(StaticKeys(info.secret_id, info.secret_key), info.cmq_endpoint, connection="connection 'x'")


def test_the_signature_is_that_of_tencents_own_client() -> None:
    """Vector made with the ``cmq-python-sdk``; a handle 10 sorts before a handle 2."""
    params = {
        "Action": "ReceiveMessage",
        "Nonce": "123456789",
        "RequestClient": "SDK_Python_1.3",
        "SecretId": "AKIDEXAMPLE0000000000000000000000000",
        "SignatureMethod": "HmacSHA256",
        "Timestamp": "1767225600",
        "pollingWaitSeconds": "3",
        "queueName": "airflow-q",
    }
    host = "cmq-gz.public.tencenttdmq.com"
    assert sign("POST", host, params, "EXAMPLEKEY00000000000000000000000") == (
        "zQUm1xCCVxi1eqnaY/Tzn70zd+Sv0GH3JnWi3sMUtNk="
    )


async def test_messages_are_received_and_deleted_both_ways(cmq: CmqClient, emulator: Emulator) -> None:
    queue = f"{emulator.info.topic}-base"
    sent = {cmq.publish(emulator.info.topic, f"message {number} = a&b") for number in range(3)}
    assert len(sent) == 3
    seen = set()
    for message in cmq.receive(queue, wait=0):
        seen.add(message.body)
        cmq.delete(queue, [message.handle])
    while messages := await cmq.areceive(queue, wait=0):
        seen |= {message.body for message in messages}
        await cmq.adelete(queue, [message.handle for message in messages])
    assert {f"message {number} = a&b" for number in range(3)} <= seen
    assert cmq.receive(queue, wait=0) == []
    await cmq.aclose()


def test_deleting_with_an_expired_handle_is_no_error(cmq: CmqClient, emulator: Emulator) -> None:
    cmq.delete(f"{emulator.info.topic}-base", ["gone"])


def test_an_unknown_queue_names_the_field(cmq: CmqClient) -> None:
    with pytest.raises(NotFound, match="event_queue of connection 'x'"):
        cmq.receive("no-such-queue", wait=0)


def test_wrong_keys_are_refused(emulator: Emulator) -> None:
    info = emulator.info
    stranger = CmqClient(StaticKeys(info.secret_id, "wrong"), info.cmq_endpoint, connection="connection 'x'")
    with pytest.raises(PermissionDenied, match="connection 'x'"):
        stranger.receive(f"{info.topic}-base", wait=0)


def test_an_unreachable_address_names_the_field() -> None:
    nowhere = CmqClient(StaticKeys("AKIDx", "y"), "http://127.0.0.1:1", connection="connection 'x'")
    with pytest.raises(InfrastructureError, match="cmq_endpoint of connection 'x'") as caught:
        nowhere.receive("q", wait=0)
    assert caught.value.retryable


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cmq_endpoint"):
        CmqClient(StaticKeys("a", "b"), "ftp://x")


def test_the_public_address_is_known_for_documented_regions_only() -> None:
    assert default_endpoint("ap-guangzhou") == "https://cmq-gz.public.tencenttdmq.com"
    assert default_endpoint("xx-nowhere") is None
