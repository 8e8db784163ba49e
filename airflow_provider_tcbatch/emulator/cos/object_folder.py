"""Buckets and objects in a data folder: what moto holds in memory, written down after each change.

Contents are files below ``objects``, all else is records of the folder's database. A file is whole before a record
names it, and removed after the last one did: records and files agree at whatever moment the emulator is killed.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator.persistence.database import Database, Row

log = logging.getLogger("tcbatch_emulator.cos")

#: How often a change is looked at that others change meanwhile.
_ATTEMPTS = 100


class ObjectFolder:
    """Writes moto's buckets down, and reads them again. Methods block and may be called from any thread.

    :param database: takes the records.
    :param folder: takes the contents.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._lock = threading.Lock()
        #: What is written down, by kind and name.
        self._records: dict[tuple[str, str], Any] = {}
        #: Those of uploads, so that not all have to be looked through.
        self._uploads: set[tuple[str, str]] = set()
        #: Attribute of moto's objects that says which file has their contents; emulators of one process share them.
        self._attribute = f"tcbatch_file_{secrets.token_hex(4)}"

    # -- writing -------------------------------------------------------------------------------------------

    def keep(self, backend: Any, bucket: str, key: str = "") -> None:
        """Write down what has become of an object, or of everything in a bucket.

        :param backend: moto's.
        :param key: the object; without one the whole bucket is looked through.
        :raises OSError: when it cannot be written.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self._lock:
                    self._keep(backend, bucket, key)
                return
            except (ValueError, RuntimeError):
                # Another request has replaced an object, or added a part, meanwhile; moto closes what it replaces.
                if attempt == _ATTEMPTS - 1:
                    raise

    def _keep(self, backend: Any, bucket: str, key: str) -> None:
        found = backend.buckets.get(bucket)
        wanted: dict[tuple[str, str], Any] = {}
        if found is None:
            names = [name for name in self._records if name == ("bucket", bucket) or _bucket_of(name) == bucket]
        else:
            wanted["bucket", bucket] = {"versioning": found.versioning_status}
            names = [] if key else [name for name in self._records if _bucket_of(name) == bucket]
            for each in [key] if key else list(found.keys):
                name = "object", f"{bucket}/{json.dumps(each)}"
                names.append(name)
                versions = [self._version(backend, item) for item in found.keys.getlist(each, [])]
                if versions:
                    wanted[name] = versions
            names += [name for name in self._uploads if _bucket_of(name) == bucket]
            for upload in list(found.multiparts.values()):
                wanted["upload", f"{bucket}/{upload.id}"] = self._upload(upload)
        self._replace({name: wanted.get(name) for name in [*names, *wanted]})

    def _replace(self, values: dict[tuple[str, str], Any]) -> None:
        changed = {name: value for name, value in values.items() if self._records.get(name) != value}
        old = {file for name in changed for file in _files(self._records.get(name))}
        rows: list[Row] = [(kind, name, value) for (kind, name), value in changed.items()]
        if rows:
            self._database.write(rows)
        for name, value in changed.items():
            if value is None:
                self._records.pop(name, None)
                self._uploads.discard(name)
            else:
                self._records[name] = value
                if name[0] == "upload":
                    self._uploads.add(name)
        for file in old - {file for value in changed.values() for file in _files(value)}:
            (self._folder / file).unlink(missing_ok=True)

    def _version(self, backend: Any, item: Any) -> dict[str, Any]:
        record: dict[str, Any] = {"version_id": item._version_id, "modified": item.last_modified.isoformat()}
        if not hasattr(item, "etag"):
            # It marks where the object was deleted.
            return record
        record |= {
            "file": self._file(item),
            "etag": item.etag.strip('"'),
            "storage": item.storage_class,
            "versioned": item._is_versioned,
            "metadata": dict(item.metadata),
            "tags": backend.tagger.get_tag_dict_for_resource(item.arn),
        }
        return record

    def _upload(self, upload: Any) -> dict[str, Any]:
        parts = {str(number): {"file": self._file(part)} for number, part in list(upload.parts.items())}
        return {"key": upload.key_name, "metadata": dict(upload.metadata), "storage": upload.storage, "parts": parts}

    def _file(self, item: Any) -> str:
        name: str | None = getattr(item, self._attribute, None)
        if name is None:
            name = secrets.token_hex(16)
            self._folder.mkdir(exist_ok=True, mode=0o700)
            (self._folder / name).write_bytes(item.value)
            setattr(item, self._attribute, name)
        return name

    def clear(self) -> None:
        """Forget all objects."""
        with self._lock:
            self._replace(dict.fromkeys(self._records))

    # -- reading -------------------------------------------------------------------------------------------

    def load(self, backend: Any) -> None:
        """Give moto what was written down.

        :raises OSError: when it cannot be read.
        """
        with self._lock:
            for kind in ("bucket", "object", "upload"):
                for name, value in self._database.read(kind):
                    self._records[kind, name] = value
            self._uploads.update(name for name in self._records if name[0] == "upload")
            for (kind, name), value in list(self._records.items()):
                bucket, _, rest = name.partition("/")
                missing = [file for file in _files(value) if not (self._folder / file).exists()]
                if missing:
                    log.warning("%s is lost: %s is not there any more", name, self._folder / missing[0])
                elif kind == "bucket":
                    if bucket not in backend.buckets:
                        backend.create_bucket(bucket, "us-east-1")
                    backend.buckets[bucket].versioning_status = value["versioning"]
                elif kind == "object":
                    self._load_object(backend, backend.buckets[bucket], json.loads(rest), value)
                else:
                    self._load_upload(backend, backend.buckets[bucket], rest, value)
            # What was written just before the end, and no record came to name.
            named = {file for value in self._records.values() for file in _files(value)}
            for path in self._folder.glob("*"):
                if path.name not in named:
                    path.unlink(missing_ok=True)

    def _load_object(self, backend: Any, bucket: Any, key: str, versions: list[dict[str, Any]]) -> None:
        from moto.s3.models import FakeDeleteMarker, FakeKey

        items = []
        for record in versions:
            # A mark of a deletion has the object that was deleted.
            item: Any = FakeKey(
                name=key,
                value=(self._folder / record["file"]).read_bytes() if "file" in record else b"",
                account_id=backend.account_id,
                region_name=bucket.region_name,
                storage=record.get("storage"),
                etag=record.get("etag"),
                is_versioned=record.get("versioned", True),
                version_id=record["version_id"],
                bucket_name=bucket.name,
            )
            if "file" in record:
                item.set_metadata(dict(record["metadata"]))
                setattr(item, self._attribute, record["file"])
                if record["tags"]:
                    backend.put_object_tagging(item, record["tags"])
            else:
                item = FakeDeleteMarker(key=item)
                item._version_id = record["version_id"]
            item.last_modified = datetime.fromisoformat(record["modified"])
            items.append(item)
        bucket.keys.setlist(key, items)

    def _load_upload(self, backend: Any, bucket: Any, upload_id: str, record: dict[str, Any]) -> None:
        from moto.s3.models import FakeMultipart, get_canned_acl
        from moto.utilities.utils import CaseInsensitiveDict

        upload = FakeMultipart(
            record["key"],
            CaseInsensitiveDict(record["metadata"]),
            account_id=backend.account_id,
            region_name=bucket.region_name,
            storage=record["storage"],
            acl=get_canned_acl("private"),
        )
        upload.id = upload_id
        for number, part in record["parts"].items():
            item = upload.set_part(int(number), (self._folder / part["file"]).read_bytes())
            setattr(item, self._attribute, part["file"])
        bucket.multiparts[upload_id] = upload


def _bucket_of(name: tuple[str, str]) -> str:
    return "" if name[0] == "bucket" else name[1].partition("/")[0]


def _files(value: Any) -> Iterator[str]:
    """The files that a record names."""
    for part in value if isinstance(value, list) else (value or {}).get("parts", {}).values():
        if "file" in part:
            yield part["file"]
