"""How much of what comes from outside is looked at: bytes, values and depth are bounded before anything is parsed.

Anybody who may write to a queue chooses what its readers parse, and any server may answer anything. Parsing JSON takes
15 to 45 ms a megabyte (measured: small arrays take longest) and holds the interpreter all the while, in a thread, too;
turning it into objects takes a hundred times that. So what is too much is refused by counts that take one millisecond a
megabyte. It is one look that failed, or one message that is left, never the end of a wait.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "ANSWER",
    "CREDENTIALS",
    "EVENT",
    "LARGE_ANSWER",
    "MESSAGE",
    "ONE_MESSAGE",
    "PORTION",
    "Bounds",
    "TooMuch",
    "shortened",
]

#: Longest text of others in one of our messages, in characters.
_LONGEST = 2_000


class TooMuch(ValueError):
    """Something is over a bound; the message says by what."""


_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_OPENING = frozenset(b"[{")


class Bounds(NamedTuple):
    """What one document may hold.

    :param size: bytes.
    :param values: objects, lists, and members or elements but the first of each.
    :param depth: how deeply objects and lists may be nested.
    """

    size: int
    values: int
    depth: int

    def check(self, document: bytes | str) -> None:
        """See whether a document of JSON may be parsed.

        :raises TooMuch: if it may not.
        """
        if isinstance(document, str):
            raw = document.encode("utf-8", "surrogatepass")
        else:
            raw = document
            if b"\x00" in raw:  # UTF-16 and UTF-32, which are not counted here; nobody sends them
                raise TooMuch("it is not UTF-8")
        self.check_size(len(raw))
        if _values(raw) <= self.values and raw.count(b"{") + raw.count(b"[") <= self.depth:
            return
        # Not what stands in texts. An escaped backslash escapes nothing, so those go first.
        raw = raw.replace(rb"\\", b"").replace(rb"\"", b"")
        # No more than a key and a text belong to each value that is counted.
        if raw.count(b'"') <= 4 * (self.values + 1):
            raw = b"".join(raw.split(b'"')[::2])
        if _values(raw) > self.values:
            raise TooMuch(f"it holds more than {self.values:,} values")
        brackets = raw.translate(None, _NOT_BRACKETS)
        depth = 0
        # Of what is no JSON, brackets beyond that many are none of a document's.
        for bracket in brackets[: 2 * self.values]:
            depth += 1 if bracket in _OPENING else -1
            if depth > self.depth:
                raise TooMuch(f"it is nested more than {self.depth} deep")

    def check_size(self, size: int) -> None:
        """See whether so many bytes may be looked at.

        :raises TooMuch: if not.
        """
        if size > self.size:
            raise TooMuch(f"it has more than {self.size:,} bytes")


#: An answer of API 3.0 on an event loop. The largest that are asked for there are DescribeComputeEnv with 2,000 nodes,
#: the most that an environment may have, of 32,000 values, and DescribeTask's page of 1,000 instances, of 16,000 (with
#: the documented examples' members).
ANSWER = Bounds(size=4 * 1024 * 1024, values=50_000, depth=40)

#: The same for one who waits for nothing else, and may list all instance types of a zone.
LARGE_ANSWER = Bounds(size=16 * 1024 * 1024, values=500_000, depth=40)

#: An answer of CMQ with several messages. A message has at most 1 MB (documentation of TDMQ CMQ, limits), an answer up
#: to 16 of them: if it is over this bound, they are asked for one by one.
PORTION = Bounds(size=2 * 1024 * 1024, values=1_000, depth=8)

#: An answer of CMQ with one message: JSON may take six bytes for each of its 1,048,576.
ONE_MESSAGE = Bounds(size=6 * 1024 * 1024 + 64 * 1024, values=1_000, depth=8)

#: A message of a queue that starts DAGs. What is larger is left in the queue: it would travel through Airflow's
#: database, and its log, as a whole. JSON of more values, or nested more deeply (Airflow's own encoders recurse), is
#: handed on as text only.
MESSAGE = Bounds(size=256 * 1024, values=10_000, depth=40)

#: A message that may hold events of Batch: one has about one kilobyte (the published sample), and the user's EventVars.
EVENT = Bounds(size=64 * 1024, values=2_000, depth=40)

#: What gives out keys: STS, the machine's metadata, files of credentials. They hold a few members.
CREDENTIALS = Bounds(size=64 * 1024, values=1_000, depth=8)


def _values(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def shortened(text: str, most: int = _LONGEST) -> str:
    """A text of others as part of one of our messages: its beginning, if it is long.

    :param most: characters to keep.
    """
    return text if len(text) <= most else f"{text[:most]} [... {len(text) - most:,} more characters]"
