"""Objects of one COS bucket, as the programs of this job see them.

On Tencent Cloud the machine's CAM role gives the credentials and the bucket is found by its region. On the emulator
the keys and the address of its COS come from the environment (``TENCENTCLOUD_SECRET_ID``,
``TENCENTCLOUD_SECRET_KEY``, ``COS_ENDPOINT``). The programs need the packages ``cos-python-sdk-v5`` and
``tencentcloud-sdk-python-common`` on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from qcloud_cos import CosConfig, CosS3Client
from tencentcloud.common.credential import DefaultCredentialProvider

CHUNK = 1 << 20


class Bucket:
    """Objects below one prefix of a bucket; both come from the job's environment variables."""

    def __init__(self) -> None:
        self.name = os.environ["FLIGHTS_BUCKET"]
        self.prefix = os.environ["FLIGHTS_PREFIX"]
        place = {}
        if endpoint := os.environ.get("COS_ENDPOINT"):
            url = urlsplit(endpoint)
            place = {"IP": url.hostname, "Port": url.port, "Scheme": url.scheme}
        config = CosConfig(
            Region=os.environ["FLIGHTS_REGION"],
            CredentialInstance=DefaultCredentialProvider().get_credential(),
            **place,
        )
        self._client = CosS3Client(config)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def size(self, name: str) -> int:
        """Length of an object in bytes."""
        headers = self._client.head_object(Bucket=self.name, Key=self._key(name))
        # A plain dict with the names as the server wrote them, which may be in any case.
        return int({header.lower(): value for header, value in headers.items()}["content-length"])

    def chunks(self, name: str, first: int = 0) -> Iterator[bytes]:
        """An object's bytes from ``first`` on, piece by piece."""
        answer = self._client.get_object(Bucket=self.name, Key=self._key(name), Range=f"bytes={first}-")
        yield from answer["Body"].get_stream(CHUNK)

    def read(self, name: str, length: int | None = None) -> bytes:
        """A whole object, or its first ``length`` bytes."""
        last = "" if length is None else length - 1
        answer = self._client.get_object(Bucket=self.name, Key=self._key(name), Range=f"bytes=0-{last}")
        return b"".join(answer["Body"].get_stream(CHUNK))

    def write(self, name: str, data: bytes) -> None:
        """Make or replace an object."""
        self._client.put_object(Bucket=self.name, Key=self._key(name), Body=data)
