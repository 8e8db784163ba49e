"""What a look at an output reads: objects in part, previews as bytes."""

from __future__ import annotations

import base64

import pytest

from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.client.cos import CosClient, CosSettings
from airflow_provider_tcbatch.client.logs.reader import preview_bytes, redirected
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import PermissionDenied
from airflow_provider_tcbatch.hooks.cos import CosHook
from airflow_provider_tcbatch.models.views import LogLocation


@pytest.fixture
def cos(emulator: Emulator) -> CosClient:
    info = emulator.info
    client = CosClient(
        StaticKeys(info.secret_id, info.secret_key), CosSettings(info.region, endpoint=info.cos_endpoint)
    )
    client.put(info.bucket, "ranges/some", b"0123456789")
    client.put(info.bucket, "ranges/empty", b"")
    return client


@pytest.mark.parametrize(
    ("start", "size", "expected"),
    [(0, 4, b"0123"), (4, 6, b"456789"), (8, 100, b"89"), (10, 1, b""), (99, 5, b""), (0, 1000, b"0123456789")],
)
def test_a_part_of_an_object(emulator: Emulator, cos: CosClient, start: int, size: int, expected: bytes) -> None:
    assert cos.range(emulator.info.bucket, "ranges/some", start, size) == expected


def test_objects_that_are_empty_or_are_not(emulator: Emulator, cos: CosClient) -> None:
    bucket = emulator.info.bucket
    assert cos.range(bucket, "ranges/empty", 0, 5) == b""
    assert cos.range(bucket, "ranges/none", 0, 5) is None
    assert cos.range("missing-1250000000", "ranges/none", 0, 5) is None
    assert cos.size(bucket, "ranges/some") == 10
    assert cos.size(bucket, "ranges/empty") == 0
    assert cos.size(bucket, "ranges/none") is None


def test_another_refusal_is_an_error(emulator: Emulator, cos: CosClient) -> None:
    emulator.faults.add("error", service="cos", code="AccessDenied", status=403)
    try:
        with pytest.raises(PermissionDenied):
            cos.range(emulator.info.bucket, "ranges/some", 0, 5)
        with pytest.raises(PermissionDenied):
            cos.size(emulator.info.bucket, "ranges/some")
    finally:
        emulator.faults.clear()


def test_the_hook_reads_a_part(emulator: Emulator, cos: CosClient, connection: str) -> None:
    assert CosHook(connection).range(emulator.info.bucket, "ranges/some", 2, 3) == b"234"


def test_previews_are_bytes() -> None:
    cut = "步".encode()[:2]
    encoded = base64.b64encode(cut).decode()
    assert preview_bytes(encoded) == preview_bytes(encoded.rstrip("=")) == cut
    assert preview_bytes(f"data:text/plain;charset=utf-8;base64,{encoded}") == cut
    assert preview_bytes(None) == preview_bytes("") == b""
    assert preview_bytes("no base64: 步") == "no base64: 步".encode()


def test_where_a_stream_goes() -> None:
    location = LogLocation(stdout_redirect_path="cos://b/", stdout_redirect_file_name="out", stderr_redirect_path="x/")
    assert redirected("stdout", location) == "cos://b/out"
    assert redirected("stderr", location) is None
    assert redirected("stdout", None) is None
