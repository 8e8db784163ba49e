"""Objects in COS, through Tencent's own SDK."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_tcbatch.client.cos import CosClient

__all__ = ["CosHook"]


class CosHook(TencentCloudHook):
    """Reads and writes objects with the keys of the connection.

    Bucket names carry the APPID (``logs-1250000000``); keys have no leading slash.
    """

    @cached_property
    def cos(self) -> CosClient:
        """The client; ``cos.sdk`` is the SDK's own."""
        return self.settings.cos_client()

    def get(self, bucket: str, key: str, most: int = 256 * 1024 * 1024) -> bytes:
        """Read a whole object.

        :param most: bytes that it may have.
        :raises NotFound: if it, or the bucket, does not exist.
        :raises InfrastructureError: if it is larger, or comes more slowly than 64 KB a second.
        """
        return self.cos.get(bucket, key, most)

    def tail(self, bucket: str, key: str, size: int = 16 * 1024) -> bytes:
        """Read the last ``size`` bytes of an object."""
        return self.cos.tail(bucket, key, size)[0]

    def range(self, bucket: str, key: str, start: int, size: int) -> bytes | None:
        """Read ``size`` bytes of an object from an offset on; ``None`` if there is no object."""
        return self.cos.range(bucket, key, start, size)

    def presigned_url(self, bucket: str, key: str, expires: int = 3600) -> str:
        """Link that reads an object without credentials, for ``expires`` seconds."""
        return self.cos.presigned_url(bucket, key, expires)

    def put(self, bucket: str, key: str, data: bytes | str) -> None:
        """Write an object."""
        self.cos.put(bucket, key, data)

    def put_file(self, bucket: str, key: str, path: str) -> None:
        """Write an object from a local file, in parts where it is large."""
        self.cos.put_file(bucket, key, path)

    def exists(self, bucket: str, key: str) -> bool:
        """Whether an object exists."""
        return self.cos.exists(bucket, key)

    def list(self, bucket: str, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys below a prefix."""
        return self.cos.list(bucket, prefix)

    def ensure_bucket(self, bucket: str) -> None:
        """Make a bucket unless it exists."""
        self.cos.ensure_bucket(bucket)
