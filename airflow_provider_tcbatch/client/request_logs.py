"""What the libraries that send requests log of them.

At DEBUG, Tencent's SDK writes whole requests and answers (``tencentcloud_sdk_common``: the session token, passwords of
registries and machines), and its COS SDK writes headers and the key that it signs with (``qcloud_cos.cos_auth``); at
INFO the latter writes the headers that it was given, which may hold keys of server-side encryption. Masks come too late
where somebody gives these loggers a handler of their own, so such records are dropped, whatever the level. httpx and
urllib3 log no headers and no bodies of requests.
"""

from __future__ import annotations

import functools
import logging

__all__ = ["hide_requests"]

#: A filter holds for the records of one logger, and not for those of its children.
_LOGGERS = (
    "tencentcloud_sdk_common",
    "qcloud_cos",
    "qcloud_cos.cos_auth",
    "qcloud_cos.cos_client",
    "qcloud_cos.cos_encryption_client",
    "qcloud_cos.cos_threadpool",
    "qcloud_cos.crypto",
    "qcloud_cos.resumable_downloader",
    "qcloud_cos.select_event_stream",
)


@functools.cache
def hide_requests() -> None:
    """Keep requests and answers out of the libraries' logs for the rest of this process; their warnings stay."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_no_request)


def _is_no_request(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
