"""Objects through Tencent's official COS client, signed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_exception import CosServiceError

from airflow_provider_tcbatch.emulator import Emulator

BUCKET = "airflow-1250000000"


@pytest.fixture(params=["virtual host", "path style"])
def client(request: pytest.FixtureRequest, emulator: Emulator) -> CosS3Client:
    info = emulator.info
    address = urlsplit(info.cos_endpoint)
    ways: dict[str, dict[str, Any]] = {
        "virtual host": {"IP": address.hostname, "Port": address.port},
        "path style": {"Domain": f"{address.netloc}/{BUCKET}"},
    }
    return CosS3Client(
        CosConfig(
            Region=info.region, SecretId=info.secret_id, SecretKey=info.secret_key, Scheme="http", **ways[request.param]
        ),
        retry=0,
    )


def read(client: CosS3Client, key: str, **options: str) -> bytes:
    data: bytes = client.get_object(Bucket=BUCKET, Key=key, **options)["Body"].get_raw_stream().read()
    return data


def test_objects(client: CosS3Client) -> None:
    key = "folder/with space+plus/ünïcode ~!@#$&'().txt"
    client.put_object(Bucket=BUCKET, Key=key, Body=b"0123456789", Metadata={"x-cos-meta-owner": "me"})
    assert read(client, key) == b"0123456789"
    assert read(client, key, Range="bytes=2-4") == b"234"
    head = client.head_object(Bucket=BUCKET, Key=key)
    assert (head["Content-Length"], head["x-cos-meta-owner"]) == ("10", "me")
    assert head["x-cos-request-id"]
    client.put_object(Bucket=BUCKET, Key="folder/b", Body=b"b")
    listed = client.list_objects(Bucket=BUCKET, Prefix="folder/", Delimiter="/")
    assert [item["Key"] for item in listed["Contents"]] == ["folder/b"]
    assert [item["Prefix"] for item in listed["CommonPrefixes"]] == ["folder/with%20space%2Bplus/"] or [
        item["Prefix"] for item in listed["CommonPrefixes"]
    ] == ["folder/with space+plus/"]
    client.copy_object(
        Bucket=BUCKET, Key="folder/copy", CopySource={"Bucket": BUCKET, "Key": "folder/b", "Region": "ap-guangzhou"}
    )
    assert read(client, "folder/copy") == b"b"
    assert client.object_exists(Bucket=BUCKET, Key=key)
    client.delete_object(Bucket=BUCKET, Key=key)
    assert not client.object_exists(Bucket=BUCKET, Key=key)
    answer = client.delete_objects(Bucket=BUCKET, Delete={"Object": [{"Key": "folder/b"}, {"Key": "folder/copy"}]})
    assert {item["Key"] for item in answer["Deleted"]} == {"folder/b", "folder/copy"}


def test_multipart(client: CosS3Client) -> None:
    part = b"x" * (1024 * 1024)
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="big")["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(Bucket=BUCKET, Key="big", Body=body, PartNumber=number, UploadId=upload)["ETag"],
        }
        for number, body in ((1, part * 6), (2, b"end"))
    ]
    client.complete_multipart_upload(Bucket=BUCKET, Key="big", UploadId=upload, MultipartUpload={"Part": parts})
    assert client.head_object(Bucket=BUCKET, Key="big")["Content-Length"] == str(6 * len(part) + 3)
    assert read(client, "big", Range=f"bytes={6 * len(part)}-") == b"end"


def test_errors_are_cos_errors(client: CosS3Client) -> None:
    with pytest.raises(CosServiceError) as caught:
        client.get_object(Bucket=BUCKET, Key="none")
    assert (caught.value.get_status_code(), caught.value.get_error_code()) == (404, "NoSuchKey")
    assert caught.value.get_request_id()
    client.put_object(Bucket=BUCKET, Key="short", Body=b"1")
    with pytest.raises(CosServiceError) as caught:
        client.get_object(Bucket=BUCKET, Key="short", Range="bytes=10-20")
    assert caught.value.get_status_code() == 416


def test_buckets(emulator: Emulator, cos: CosS3Client) -> None:
    with pytest.raises(CosServiceError) as caught:
        cos.get_object(Bucket="other-1250000000", Key="x")
    assert caught.value.get_error_code() == "NoSuchBucket"
    cos.create_bucket(Bucket="other-1250000000")
    cos.put_object(Bucket="other-1250000000", Key="x", Body=b"1")
    with pytest.raises(CosServiceError) as caught:
        cos.delete_bucket(Bucket="other-1250000000")
    assert caught.value.get_error_code() == "BucketNotEmpty"
    cos.delete_object(Bucket="other-1250000000", Key="x")
    cos.delete_bucket(Bucket="other-1250000000")
    assert not cos.bucket_exists(Bucket="other-1250000000")


def test_presigned_url(emulator: Emulator, cos: CosS3Client) -> None:
    cos.put_object(Bucket=BUCKET, Key="shared/a b", Body=b"shared")
    # As for the real service, but fetched from the emulator.
    keys = {"SecretId": emulator.info.secret_id, "SecretKey": emulator.info.secret_key}
    real = CosS3Client(CosConfig(Region=emulator.info.region, Scheme="http", **keys))
    url = urlsplit(real.get_presigned_download_url(Bucket=BUCKET, Key="shared/a b", Expired=60))
    local = f"{emulator.info.cos_endpoint}{quote('/shared/a b')}?{url.query}"
    headers = {"Host": url.netloc}
    assert requests.get(local, headers=headers, timeout=5).content == b"shared"
    assert requests.get(local.replace("a%20b", "ab"), headers=headers, timeout=5).status_code == 403


def client_with(emulator: Emulator, **changes: str) -> CosS3Client:
    address = urlsplit(emulator.info.cos_endpoint)
    keys = {"SecretId": emulator.info.secret_id, "SecretKey": emulator.info.secret_key, **changes}
    config = CosConfig(Region=emulator.info.region, Scheme="http", IP=address.hostname, Port=address.port, **keys)
    return CosS3Client(config, retry=0)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"SecretKey": "wrong"}, "SignatureDoesNotMatch"),
        ({"SecretId": "AKIDnobody"}, "InvalidAccessKeyId"),
    ],
)
def test_wrong_signature_is_refused(emulator: Emulator, changes: dict[str, str], code: str) -> None:
    client = client_with(emulator, **changes)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: client.get_object(Bucket=BUCKET, Key="x"),
        lambda: client.put_object(Bucket=BUCKET, Key="x", Body=b"x" * 300_000),
    )
    for call in calls:
        with pytest.raises(CosServiceError) as caught:
            call()
        assert (caught.value.get_status_code(), caught.value.get_error_code()) == (403, code)


def test_expired_and_missing_signatures_are_refused(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcloud_cos import cos_auth

    class Late:
        time = staticmethod(lambda: time.time() - 11_000)

    with monkeypatch.context() as patch:
        patch.setattr(cos_auth, "time", Late)
        with pytest.raises(CosServiceError, match="expired") as caught:
            client_with(emulator).get_object(Bucket=BUCKET, Key="x")
    assert caught.value.get_error_code() == "AccessDenied"
    answer = requests.get(f"{emulator.info.cos_endpoint}/{BUCKET}/x", timeout=5)
    assert answer.status_code == 403
    assert "<Code>AccessDenied</Code>" in answer.text
