"""Identifiers and times as the services spell them."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Container
from datetime import datetime, timezone

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
# Ids are no secrets, and asking the system for each letter would be a tenth of what a job costs.
_chance = random.Random()
_AKID_ALPHABET = _ALPHABET + _ALPHABET[10:].upper()


def new_id(prefix: str, taken: Container[str] = ()) -> str:
    """``prefix-`` and eight of ``[0-9a-z]``, not in ``taken``."""
    while True:
        candidate = f"{prefix}-" + "".join(_chance.choices(_ALPHABET, k=8))
        if candidate not in taken:
            return candidate


def new_request_id() -> str:
    """A request id: a UUID."""
    return str(uuid.uuid4())


def new_secret_id() -> str:
    """A SecretId in the vendor's form; the emulator makes its own pair at every start."""
    return "AKID" + "".join(secrets.choice(_AKID_ALPHABET) for _ in range(32))


def new_secret_key() -> str:
    """A SecretKey: 32 letters and digits."""
    return "".join(secrets.choice(_AKID_ALPHABET) for _ in range(32))


def iso(time: float | None) -> str | None:
    """``YYYY-MM-DDThh:mm:ssZ`` of epoch seconds, or None."""
    if time is None:
        return None
    return datetime.fromtimestamp(int(time), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
