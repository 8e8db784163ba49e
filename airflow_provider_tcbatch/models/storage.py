"""Storage paths of Batch: ``cos://``, ``cfs://`` and ``nfs://``.

Batch accepts only the host names of COS's XML API, a path must end with a slash where a folder is meant,
and a bucket must lie in the job's region (user guide, "COS, CFS path").
"""

from __future__ import annotations

import re
import warnings
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

__all__ = ["CosLocation", "FolderPath", "FolderPathOrNone", "PackagePath", "Placeholder"]

_COS = re.compile(
    r"cos://(?P<bucket>[a-z0-9][a-z0-9-]*-\d{5,})\."
    r"(?:cos\.(?P<region>[a-z0-9-]+)|cos(?P<short>[a-z]+))\.myqcloud\.com/(?P<key>.*)",
    re.DOTALL,
)

#: Regions behind the short host names of COS's old JSON API (``<bucket>.cosgz.myqcloud.com``).
_SHORT_REGIONS = {
    "gz": "ap-guangzhou",
    "bj": "ap-beijing",
    "sh": "ap-shanghai",
    "cd": "ap-chengdu",
    "sg": "ap-singapore",
    "hk": "ap-hongkong",
    "ca": "na-toronto",
}

_COS_FORM = "cos://<bucket>-<appid>.cos.<region>.myqcloud.com/<prefix>/"


class Placeholder(NamedTuple):
    """Marks a string type with a value that satisfies its rules.

    Where a DAG holds a Jinja expression, the rules are checked on this value in its place.
    """

    value: str


class CosLocation(NamedTuple):
    """A place in COS.

    :param bucket: full bucket name, with the APPID (``logs-1250000000``).
    :param region: region of the bucket (``ap-guangzhou``).
    :param key: object key or prefix, without a leading slash.
    """

    bucket: str
    region: str
    key: str

    @classmethod
    def parse(cls, path: str) -> CosLocation:
        """Read a ``cos://`` path.

        :raises ValueError: if the path is not on a COS XML-API host.
        """
        match = _COS.fullmatch(path)
        if match is None or (match["short"] and match["short"] not in _SHORT_REGIONS):
            raise ValueError(f"is not on a COS XML-API host; write {_COS_FORM} instead of {path!r}")
        region = match["region"] or _SHORT_REGIONS[match["short"]]
        return cls(match["bucket"], region, match["key"])

    def join(self, name: str) -> CosLocation:
        """Return the location of ``name`` below this prefix."""
        return CosLocation(self.bucket, self.region, self.key + name)

    def __str__(self) -> str:
        return f"cos://{self.bucket}.cos.{self.region}.myqcloud.com/{self.key}"


#: What Batch's own samples print besides: ``appid`` in place of the account's number, and no ``cos``.
_SAMPLE_HOST = re.compile(
    r"cos://[a-z0-9][a-z0-9-]*-(?:\d{5,}|appid)\."
    rf"(?:(?:cos\.)?[a-z]{{2,}}-[a-z0-9-]+|cos(?:{'|'.join(_SHORT_REGIONS)}))\.myqcloud\.com/.*",
    re.DOTALL,
)

#: The longest key that COS takes, in bytes of UTF-8 (COS, "Object overview").
_LONGEST_KEY = 850


def _check_cos(path: str) -> None:
    advice = None
    try:
        location = CosLocation.parse(path)
    except ValueError:
        if _SAMPLE_HOST.fullmatch(path) is None:
            raise
        advice = f"names no documented host of COS; Batch documents only the XML API's: write {_COS_FORM}"
    else:
        if f".cos.{location.region}." not in path:
            host = f"{location.bucket}.cos.{location.region}.myqcloud.com"
            advice = f"names a host of COS's old JSON API; Batch documents only the XML API: write {host}"
    key = path.removeprefix("cos://").partition("/")[2]
    if len(key.encode()) > _LONGEST_KEY or any(ord(char) < 32 or ord(char) == 127 for char in key):
        raise ValueError(f"must not hold control characters, nor a key of more than {_LONGEST_KEY} bytes")
    if advice is not None:
        warnings.warn(f"{path!r} {advice}", UserWarning, stacklevel=2)


def _folder(path: str) -> str:
    scheme = path.partition("://")[0]
    if scheme == "cos":
        _check_cos(path)
    elif scheme not in ("cfs", "nfs"):
        raise ValueError(f"must begin with cos://, cfs:// or nfs:// (such as {_COS_FORM}); it is {path!r}")
    if not path.endswith("/"):
        raise ValueError(f"must end with a slash: write {path + '/'!r}")
    return path


def _package(path: str) -> str:
    scheme = path.partition("://")[0]
    if scheme == "cos":
        _check_cos(path)
    elif scheme not in ("http", "https"):
        raise ValueError(f"must begin with cos://, http:// or https://; it is {path!r}")
    if path.endswith("/"):
        raise ValueError(f"must name an archive (.tgz or .tar.gz), not a folder; it is {path!r}")
    return path


#: A folder in remote storage: log redirection and input / output mappings.
FolderPath = Annotated[
    str,
    AfterValidator(_folder),
    Placeholder("cos://placeholder-1250000000.cos.ap-guangzhou.myqcloud.com/"),
    Field(description="cos://, cfs:// or nfs:// path that ends with a slash"),
]


def _folder_or_none(path: str) -> str:
    return _folder(path) if path else path


#: The same where an empty text says that there is none, as Tencent's answers and samples do.
FolderPathOrNone = Annotated[
    str,
    AfterValidator(_folder_or_none),
    Placeholder("cos://placeholder-1250000000.cos.ap-guangzhou.myqcloud.com/"),
    Field(description="cos://, cfs:// or nfs:// path that ends with a slash, or nothing"),
]

#: A ``.tgz`` archive that holds a task's program.
PackagePath = Annotated[
    str,
    AfterValidator(_package),
    Placeholder("cos://placeholder-1250000000.cos.ap-guangzhou.myqcloud.com/package.tgz"),
    Field(description="http(s):// or cos:// address of a .tgz archive"),
]
