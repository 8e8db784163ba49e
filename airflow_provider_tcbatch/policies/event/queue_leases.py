"""Queues that processes make for themselves: what they are called, and whose process is dead.

A process that is killed leaves its queue behind, and nothing that the service tells says for sure whether somebody
still receives from one: its counts are rough, and what it does with idle queues is not documented. So the living give
signs. Each keeps changing an attribute of its queue that has no other use (its default poll time; receivers name
theirs), and looks now and then at the queues of its family. A queue whose attribute stays the same, look for look, has
nobody any more.

It is only compared, look with look, by one observer and his own clock: no clocks of several machines, no time that
the service writes. And who does not find his *own* sign as he gave it last believes none: whatever keeps signs from
being seen (a missing right, a list that lags behind, an attribute that is not shown), nothing is swept then. A living
process that is swept all the same makes another queue, and polls meanwhile.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PREFIX", "Looks", "Sighting", "family", "is_of", "next_sign", "queue_name"]

#: What names of such queues begin with.
PREFIX = "airflow-tcbatch-"

#: Signs are numbers from 1 to this: ``PollingWaitSeconds`` takes up to 30 seconds.
_SIGNS = 30

_NAME_LENGTH = 64


def family(deployment: str, topic: str) -> str:
    """What names of queues of one deployment and topic begin with, and no others'.

    The readable part may be cut off, the digest tells them apart: ``airflow-tcbatch-production-1f0c3a9e-``.

    :param deployment: what tells this Airflow from others on the same account.
    :param topic: topic that the queues hear.
    """
    digest = hashlib.sha256(f"{deployment}\n{topic}".encode()).hexdigest()[:8]
    # No dash: the first one after it begins the digest.
    readable = re.sub(r"[^A-Za-z0-9]+", "_", deployment).strip("_")[:12]
    return f"{PREFIX}{readable}-{digest}-"


def queue_name(family: str, host: str, unique: str) -> str:
    """Name of one process' queue: at most 64 letters, digits, dashes and underscores.

    :param family: see :func:`family`.
    :param host: its machine, which is cut off where it is too long.
    :param unique: 8 hex digits.
    """
    room = _NAME_LENGTH - len(family) - len(unique) - 1
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", host)[:room].strip("-") or "host"
    return f"{family}{readable}-{unique}"


def is_of(family: str, name: str) -> bool:
    """Whether a queue, or a subscription, was named by :func:`queue_name` for this family."""
    # Names are not told apart by case, so the service may write another.
    return re.fullmatch(rf"{re.escape(family)}[a-z0-9-]+-[0-9a-f]{{8}}", name, re.IGNORECASE) is not None


def next_sign(sign: int) -> int:
    """The sign to give after this one."""
    return sign % _SIGNS + 1


@dataclass(frozen=True)
class Sighting:
    """Since when a queue looks the same.

    :param sign: what it showed.
    :param since: seconds of the observer's clock when it first did.
    :param looks: how often it did, in a row.
    """

    sign: str
    since: float
    looks: int = 1


@dataclass(frozen=True)
class Looks:
    """What one observer has seen so far.

    :param sightings: by name.
    :param dead: names of those that have nobody any more.
    :param believed: whether the observer found its own sign.
    """

    sightings: Mapping[str, Sighting] = field(default_factory=dict)
    dead: tuple[str, ...] = ()
    believed: bool = False

    def look(self, seen: Mapping[str, str], own: str, sign: str, now: float, *, silence: float, looks: int) -> Looks:
        """Compare what is seen now with what was seen before.

        :param seen: what each queue of the family shows, by name; what has none, but a subscription, shows "".
        :param own: name of the observer's queue.
        :param sign: what that showed must show.
        :param now: seconds of a clock that does not go back.
        :param silence: seconds without a new sign after which a queue is dead, if ``looks`` looks showed the same. Both
            are asked for: an observer that was asleep itself has not looked.
        :returns: what is known now.
        """
        if seen.get(own) != sign:
            # Forgotten, not kept: what was seen before may be as wrong.
            return Looks()
        sightings = {}
        for name, shown in seen.items():
            before = self.sightings.get(name)
            same = before is not None and before.sign == shown
            sightings[name] = (
                Sighting(shown, before.since, before.looks + 1) if before and same else Sighting(shown, now)
            )
        dead = tuple(
            name
            for name, sighting in sightings.items()
            if name != own and sighting.looks >= looks and now - sighting.since >= silence
        )
        return Looks(sightings, dead, believed=True)
