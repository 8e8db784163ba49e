"""What a retry does about the job of the try before it."""

from __future__ import annotations

from enum import Enum

__all__ = ["OnRetry"]


class OnRetry(str, Enum):
    """What a retry does about a job that failed."""

    RESUBMIT = "resubmit"
    REPAIR = "repair"
