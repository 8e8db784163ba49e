"""The buckets: moto's S3, loaded late because importing it takes longer than all the rest."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

from airflow_provider_tcbatch.emulator.cos.object_folder import ObjectFolder
from airflow_provider_tcbatch.emulator.errors import CosError

#: Smallest part of a multipart upload, in bytes; the last one may be smaller.
_SMALLEST_PART = 1024 * 1024

# moto keeps its buckets in a module-level object, so emulators of one process share them. The last one out clears it.
_open_stores = 0
_lock = threading.Lock()


def import_moto() -> None:
    """Import all that a store needs, in the calling thread, which takes about a second the first time."""
    importlib.import_module("moto.moto_server.werkzeug_app").create_backend_app("s3")
    importlib.import_module("moto.iam.access_control")


class ObjectStore:
    """Objects by bucket and key. Methods block and may be called from any thread.

    :param buckets: buckets that exist from the start.
    """

    def __init__(self, buckets: tuple[str, ...]) -> None:
        global _open_stores
        self._initial = buckets
        self._backend: Any = None
        self._wsgi: Callable[..., Any] | None = None
        self._closed = False
        #: Where objects are written down; None when they end with the emulator.
        self.folder: ObjectFolder | None = None
        with _lock:
            _open_stores += 1

    def load(self) -> Any:
        """moto's backend, imported and given its first buckets on first use."""
        with _lock:
            if self._backend is None:
                from moto.core.models import DEFAULT_ACCOUNT_ID
                from moto.s3 import models
                from moto.s3.models import s3_backends

                # COS takes parts of 1 MB, which is what its own SDK sends; S3 wants 5 MB.
                models.S3_UPLOAD_PART_MIN_SIZE = _SMALLEST_PART  # type: ignore[attr-defined]

                self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
                for bucket in self._initial:
                    if bucket not in self._backend.buckets:
                        self._backend.create_bucket(bucket, "us-east-1")
                if self.folder is not None:
                    self.folder.load(self._backend)
            return self._backend

    def wsgi(self) -> Callable[..., Any]:
        """moto's web application for S3."""
        self.load()
        with _lock:
            if self._wsgi is None:
                from moto.moto_server.werkzeug_app import create_backend_app

                application = create_backend_app("s3")
                # moto asks Flask for debug mode, which would print tracebacks into answers.
                application.debug = False
                self._wsgi = application
            return self._wsgi

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object.

        :raises CosError: NoSuchBucket.
        """
        backend = self.load()
        if bucket not in backend.buckets:
            raise CosError(404, "NoSuchBucket", f"The bucket {bucket} does not exist.")
        backend.put_object(bucket, key, data).set_metadata({"Content-Type": "text/plain"})
        self.keep(bucket, key)

    def keep(self, bucket: str, key: str = "") -> None:
        """Write down what has become of an object, or of everything in a bucket, if there is a folder for it.

        :raises OSError: when it cannot be written.
        """
        if self.folder is not None:
            self.folder.keep(self.load(), bucket, key)

    def get(self, bucket: str, key: str) -> bytes:
        """Contents of an object.

        :raises CosError: NoSuchBucket or NoSuchKey.
        """
        backend = self.load()
        if bucket not in backend.buckets:
            raise CosError(404, "NoSuchBucket", f"The bucket {bucket} does not exist.")
        found = backend.get_object(bucket, key)
        if found is None:
            raise CosError(404, "NoSuchKey", f"The object {key} does not exist in {bucket}.")
        data: bytes = found.value
        return data

    def listing(self, bucket: str, prefix: str, most: int) -> tuple[list[tuple[str, int]], int]:
        """Keys and sizes of the first objects whose keys begin so, and how many there are.

        :raises CosError: NoSuchBucket.
        """
        backend = self.load()
        if bucket not in backend.buckets:
            raise CosError(404, "NoSuchBucket", f"The bucket {bucket} does not exist.")
        found = sorted(key for key in list(backend.buckets[bucket].keys) if key.startswith(prefix))
        return [(key, backend.buckets[bucket].keys[key].size) for key in found[:most]], len(found)

    def reset(self) -> None:
        """Back to the first buckets, empty."""
        if self.folder is not None:
            self.folder.clear()
        self.load().reset()
        with _lock:
            self._backend = None
        self.load()

    def close(self) -> None:
        """Let go of the buckets."""
        global _open_stores
        with _lock:
            if self._closed:
                return
            self._closed = True
            _open_stores -= 1
            if _open_stores == 0 and self._backend is not None:
                self._backend.reset()
            self._backend = None
