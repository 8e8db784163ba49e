"""Where services are: apart from the clients that ask there, since most tasks ask few of them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CosSettings", "default_endpoint"]

#: Region codes in the host names of CMQ.
_SHORT_REGIONS = {
    "ap-guangzhou": "gz",
    "ap-shanghai": "sh",
    "ap-beijing": "bj",
    "ap-hongkong": "hk",
    "ap-chengdu": "cd",
    "ap-nanjing": "nj",
    "ap-singapore": "sg",
    "na-toronto": "ca",
}


def default_endpoint(region: str) -> str | None:
    """Public address of CMQ in a region, or ``None`` where no name is documented.

    The console shows the real address as "API request address"; a connection field overrides this one.
    """
    short = _SHORT_REGIONS.get(region)
    return f"https://cmq-{short}.public.tencenttdmq.com" if short else None


class CosSettings(NamedTuple):
    """Where COS is.

    :param region: region of the buckets.
    :param endpoint: URL of another server that speaks COS's protocol (an emulator), or a COS host name
        without the bucket (``cos-internal.ap-guangzhou.tencentcos.cn``); ``None`` for the public host.
    :param proxy: proxy URL, if any.
    :param ca_file: certificates of the authorities to trust, as a PEM file; default is the usual ones.
    :param connection: how messages name the Airflow connection.
    """

    region: str
    endpoint: str | None = None
    proxy: str | None = None
    ca_file: str | None = None
    connection: str = "the connection"
