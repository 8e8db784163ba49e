"""Warnings as errors, where a warning says that something was called in a wrong way."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

#: What the SDK does itself when it signs, whatever was called: deprecated since Python 3.12.
_SDK_SIGNING = r"datetime\.datetime\.utcfromtimestamp\(\) is deprecated"


@contextlib.contextmanager
def warnings_are_errors() -> Iterator[None]:
    """Any warning is an error, such as the SDK's about a member that its models do not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", _SDK_SIGNING, DeprecationWarning, r"tencentcloud\.common\.")
        yield
