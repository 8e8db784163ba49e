"""Values that many members of requests hold, with the documented rule of each (docs/rules.md has their sources).

What is documented is refused when a DAG is parsed; what is not is left to the service.
"""

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from airflow_provider_tcbatch.models.storage import Placeholder

__all__ = [
    "Count",
    "DataDiskSize",
    "FileName",
    "ImageId",
    "ImageName",
    "Integer",
    "LocalPath",
    "Percent",
    "Price",
    "Text",
    "TopicName",
    "VariableName",
    "ZoneName",
    "no_flag",
]

_LARGEST = 2**63 - 1


def no_flag(value: Any) -> Any:
    """Refuse what pydantic alone takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"must be a whole number, not {str(value).lower()}")
    return value


#: A whole number of 64 bits. Pydantic alone takes true for 1.
Integer = Annotated[int, Field(ge=-_LARGEST - 1, le=_LARGEST), BeforeValidator(no_flag)]

#: A whole number that is not negative.
Count = Annotated[int, Field(ge=0, le=_LARGEST), BeforeValidator(no_flag)]

#: 0 to 100.
Percent = Annotated[int, Field(ge=0, le=100), BeforeValidator(no_flag)]


def _data_disk(size: int) -> int:
    if size % 10:
        raise ValueError(f"must be a multiple of 10 (GB): write {size - size % 10 + 10}")
    return size


#: Size of a data disk in GB.
DataDiskSize = Annotated[Count, AfterValidator(_data_disk)]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character: no command line or environment variable can")
    return text


#: Text that becomes part of a command line or of an environment.
Text = Annotated[str, AfterValidator(_without_nul)]


def _variable_name(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise ValueError(f"must be the name of an environment variable: not empty, no '=' and no NUL; it is {name!r}")
    return name


VariableName = Annotated[str, AfterValidator(_variable_name)]


def _image_name(name: str) -> str:
    if not name.strip():
        raise ValueError("must name an image, such as 'user/repo:tag'; leave Docker out for a task without a container")
    return _without_nul(name)


#: What Docker is to pull.
ImageName = Annotated[str, AfterValidator(_image_name)]


def _local_path(path: str) -> str:
    if not path or "\0" in path:
        raise ValueError(f"must be a path on the machine: not empty, no NUL; it is {path!r}")
    return path


LocalPath = Annotated[str, AfterValidator(_local_path)]


def _file_name(name: str) -> str:
    if len(name.encode(errors="replace")) > 850 or any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise ValueError("must not hold control characters, nor be longer than a key of COS (850 bytes)")
    return name


#: End of an object's key in COS.
FileName = Annotated[str, AfterValidator(_file_name)]

_ZONE = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+-\d{1,2}")


def _zone(name: str) -> str:
    if not _ZONE.fullmatch(name):
        raise ValueError(
            f"must be an availability zone, which is a region and a number such as 'ap-guangzhou-3'; it is {name!r}"
        )
    return name


#: Which zones a region has is for the service to say.
ZoneName = Annotated[str, AfterValidator(_zone), Placeholder("ap-guangzhou-3")]

_IMAGE_ID = re.compile(r"(img-[0-9A-Za-z]+)?")


def _image_id(text: str) -> str:
    if not _IMAGE_ID.fullmatch(text):
        raise ValueError(f"must be the id of an image, such as 'img-xxxxxxxx'; it is {text!r}")
    return text


#: Tencent's own sample has an empty one.
ImageId = Annotated[str, AfterValidator(_image_id), Placeholder("img-00000000")]

_PRICE = re.compile(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _price(text: str) -> str:
    if not _PRICE.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(f"must be a price per hour, not negative, as text such as '0.5'; it is {text!r}")
    return text


Price = Annotated[str, AfterValidator(_price), Placeholder("1.0")]

_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _topic_name(name: str) -> str:
    if not _TOPIC.fullmatch(name):
        raise ValueError(
            f"must be the name (not the id) of a CMQ topic: 1 to 64 letters, digits, '-' and '_'; it is {name!r}"
        )
    return name


TopicName = Annotated[str, AfterValidator(_topic_name), Placeholder("topic")]
