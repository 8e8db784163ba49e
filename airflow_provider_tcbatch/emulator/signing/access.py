"""Which keys are accepted: a permanent pair, and temporary ones that come with a token."""

from __future__ import annotations

import hmac
from dataclasses import dataclass


class TokenProblem(Exception):
    """The token of a request is missing, wrong, expired or one too many; the text says which."""


@dataclass(frozen=True)
class TemporaryKey:
    """A key pair that is valid with its token only, and for a while.

    :ivar expires_at: epoch seconds; None: never.
    """

    secret_id: str
    secret_key: str
    token: str
    expires_at: float | None = None


class Access:
    """All key pairs of the emulated account.

    :param permanent: secret keys by secret id.
    :param temporary: key pairs with a token.
    """

    def __init__(self, permanent: dict[str, str], temporary: tuple[TemporaryKey, ...] = ()) -> None:
        self._temporary: dict[str, TemporaryKey] = {}
        self.keys = dict(permanent)
        """Secret keys by secret id, temporary ones too."""
        for key in temporary:
            self.add(key)

    def add(self, key: TemporaryKey) -> None:
        """Accept a temporary key pair from now on."""
        self._temporary[key.secret_id] = key
        self.keys[key.secret_id] = key.secret_key

    def check_token(self, secret_id: str, token: str | None, now: float) -> None:
        """Check the token that came with a SecretId whose signature is right.

        :raises TokenProblem: when the two do not belong together.
        """
        key = self._temporary.get(secret_id)
        if key is None:
            if token:
                raise TokenProblem("a token was sent with a key that is not temporary")
        elif not hmac.compare_digest(key.token.encode(), (token or "").encode("utf-8", "replace")):
            raise TokenProblem("the token is missing or does not belong to this SecretId")
        elif key.expires_at is not None and now >= key.expires_at:
            raise TokenProblem("the token has expired")
