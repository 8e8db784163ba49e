"""Storage paths in job requests."""

from __future__ import annotations

import hashlib
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import quote

from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import printable

_COS_HOST = re.compile(
    r"^(?P<bucket>[a-z0-9][a-z0-9-]{0,49}-\d{5,20})\."
    r"(?:cos\.(?P<region>[a-z]{2,}[a-z0-9-]*)|cos(?P<short>gz|bj|sh|cd|sg|hk|ca))\.myqcloud\.com$"
)
#: What Tencent's own samples print besides: ``appid`` in place of the account's number, and no ``cos``.
_SAMPLE_HOST = re.compile(
    r"^(?P<bucket>[a-z0-9][a-z0-9-]*-(?:\d{5,20}|appid))\."
    r"(?:(?:cos\.)?[a-z]{2,}-[a-z0-9-]+|cos(?:gz|bj|sh|cd|sg|hk|ca))\.myqcloud\.com$"
)
_PLACEHOLDERS = ("BATCH_JOB_ID", "BATCH_TASK_NAME", "BATCH_TASK_INSTANCE_INDEX")


@dataclass(frozen=True)
class CosPath:
    """An object or a prefix in a bucket."""

    bucket: str
    key: str


def parse_cos(path: str, where: str, *, folder: bool) -> CosPath:
    """Take ``cos://<bucket>.cos.<region>.myqcloud.com/<key>`` apart.

    The older hosts ``<bucket>.cosgz.myqcloud.com`` of Tencent's own samples are accepted too, and those of samples that
    leave the account's number, or ``cos``, to the reader.

    :param where: the parameter's path, for messages.
    :param folder: whether the path must end with a slash.
    :raises ApiError: RemoteStorageSchemeType for another scheme, RemoteStoragePath for all else.
    """
    scheme, separator, rest = path.partition("://")
    if not separator or scheme != "cos":
        raise ApiError(
            "InvalidParameterValue.RemoteStorageSchemeType",
            f"The parameter `{where}` must begin with cos://, not {printable(path, 60)}.",
        )
    host, _, key = rest.partition("/")
    match = _COS_HOST.fullmatch(host) or _SAMPLE_HOST.fullmatch(host)
    if match is None:
        raise ApiError(
            "InvalidParameterValue.RemoteStoragePath",
            f"The parameter `{where}` must name a COS host such as "
            f"bucket-1250000000.cos.ap-guangzhou.myqcloud.com, not {printable(host, 100)}.",
        )
    if folder and not path.endswith("/"):
        raise ApiError("InvalidParameterValue.RemoteStoragePath", f"The parameter `{where}` must end with a slash.")
    if not folder and (not key or key.endswith("/")):
        raise ApiError("InvalidParameterValue.RemoteStoragePath", f"The parameter `{where}` must name an object.")
    if any(ord(char) < 32 or ord(char) == 127 for char in key) or len(key.encode()) > 850:
        raise ApiError(
            "InvalidParameterValue.RemoteStoragePath",
            f"The parameter `{where}` holds control characters or a key longer than 850 bytes.",
        )
    return CosPath(match["bucket"], key)


def relative_local(path: str, where: str) -> str:
    """A local path of a job as a path below the instance's folder.

    An instance has no machine of its own here, so ``/data/logs/`` means ``data/logs`` in its folder.

    :raises ApiError: LocalPath when it is empty, holds a NUL or leads out of the folder.
    """
    if not path or "\0" in path or len(path) > 1024:
        raise ApiError("InvalidParameterValue.LocalPath", f"The parameter `{where}` is not a usable path.")
    if ".." in path.split("/"):
        raise ApiError("InvalidParameterValue.LocalPath", f"The parameter `{where}` must not contain `..`.")
    return posixpath.normpath(path.lstrip("/") or ".")


def check_file_name(name: str, where: str, *, code: str) -> None:
    """A log's file name: no folders, no control characters.

    :raises ApiError: with ``code``.
    """
    if not name or "/" in name or name in (".", "..") or len(name) > 255 or not name.isprintable():
        raise ApiError(code, f"The parameter `{where}` is not a usable file name.")


def check_key_part(name: str, where: str, *, folders: bool) -> None:
    """The end of an object's key: no control characters, not longer than a key may be.

    :param folders: whether it may hold slashes.
    :raises ApiError: RemoteStoragePath.
    """
    control = any(ord(char) < 32 or ord(char) == 127 for char in name)
    if control or len(name.encode()) > 850 or (not folders and ("/" in name or name in (".", ".."))):
        raise ApiError("InvalidParameterValue.RemoteStoragePath", f"The parameter `{where}` is not a usable file name.")


def folder_name(name: str) -> str:
    """A task's name as the name of a folder, which may hold less than a task's name and not be as long."""
    safe = quote(name, safe=" ")
    if len(safe) > 200 or safe in ("", ".", ".."):
        return f"{safe[:150].replace('.', '%2E')}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return safe


def fill_placeholders(name: str, job_id: str, task: str, index: int) -> str:
    """Replace the three documented placeholders of a log's file name."""
    for placeholder, value in zip(_PLACEHOLDERS, (job_id, task, str(index)), strict=True):
        name = name.replace("${" + placeholder + "}", value)
    return name
