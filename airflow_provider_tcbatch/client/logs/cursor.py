"""How far an output has been shown, and what of a new look at it is new. Pure: bytes in, lines out.

A look shows a *window*: the first or the last bytes of what an instance has printed so far. Which of the two the
service shows is not documented and is never assumed here:

- A head only grows until it is full: what was seen begins the next window.
- A tail slides: what was seen ends with what the next window begins with. Of several such overlaps the longest is
  taken.

What that guarantees, of windows: nothing is ever shown twice or out of order. Where a window shares something with what
was seen before, nothing is left out, *unless the output repeats itself just there*: of a long row of equal lines a tail
may look the same before and after some more were printed; they are then shown when the object in COS is read, or not at
all. A window that shares nothing, or so little that it may be chance, is announced by a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = [
    "BEGINNING_LOST",
    "LONGEST_WINDOW",
    "LOST",
    "MAYBE_LOST",
    "WINDOW",
    "Cursor",
    "Lines",
    "cut_at",
    "overlap",
]

#: Most bytes of an output that a preview shows.
WINDOW = 2048

#: Lines that are no output.
LOST = "[... some output was not seen]"
MAYBE_LOST = "[... some output may not have been seen]"
BEGINNING_LOST = "[... the beginning of this output was not seen]"

#: A shorter overlap may be chance: the end of a line that many lines have in common.
_SURE = 32

#: A preview may be cut a little short so that it holds no half character.
_SLACK = 3

#: Of an object in COS so much of the end is searched for what was seen last.
_SEARCH = 256 * 1024

#: Carriage returns in one piece of output beyond which only its end is looked at.
_MOST_RETURNS = 4096

#: A preview that is longer, several times as long as documented, is none.
LONGEST_WINDOW = 4 * WINDOW

#: A line that is longer is shown in parts.
_LONGEST_LINE = 64 * 1024

# A \r at the very end may be the first half of \r\n: it is no line end yet.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


class Lines:
    r"""Cuts a growing output into lines, which may end in ``\n``, ``\r\n`` or ``\r``.

    A lone ``\r`` is how a progress bar paints over itself: of several such lines in a row, only the last one that
    came with the same piece of output is kept.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` has completed."""
        text = self._rest + data
        lines: list[str] = []
        progress = b""
        end = 0
        for match in _LINE_END.finditer(text):
            line, end = text[end : match.start()], match.end()
            if match[0] == b"\r":
                progress = line or progress
                continue
            if progress:
                lines.append(_decode(progress))
                progress = b""
            lines.append(_decode(line))
        if progress:
            lines.append(_decode(progress))
        self._rest = text[end:]
        while len(self._rest) > _LONGEST_LINE:
            lines.append(_decode(self._rest[:_LONGEST_LINE]))
            self._rest = self._rest[_LONGEST_LINE:]
        return lines

    def drop(self) -> None:
        """Forget the unfinished last line: it is left out."""
        self._rest = b""

    def flush(self) -> list[str]:
        """The unfinished last line, if there is one."""
        rest, self._rest = self._rest.removesuffix(b"\r"), b""
        return [_decode(rest)] if rest else []


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def overlap(seen: bytes, window: bytes) -> int:
    """Length of the longest text that ends ``seen`` and begins ``window``."""
    most = min(len(seen), len(window))
    start = len(seen) - most
    probe = window[:_SURE]
    if len(probe) == _SURE:
        while (start := seen.find(probe, start)) >= 0:
            if window.startswith(seen[start:]):
                return len(seen) - start
            start += 1
    return next((size for size in range(min(most, _SURE), 0, -1) if seen.endswith(window[:size])), 0)


def cut_at(data: bytes, lines: int, size: int) -> int:
    """Where the last lines of ``data`` begin: at most so many, of so many bytes altogether.

    Of a line that is longer by itself, the end is taken.
    """
    if data.count(b"\r") > _MOST_RETURNS:
        # A progress bar: little of it is shown, and each return is looked at.
        size = min(size, _MOST_RETURNS)
    start = max(0, len(data) - size)
    if lines <= 0 or start == len(data):
        return len(data)
    at = len(data) - data.endswith(b"\n")
    for _ in range(lines):
        at = data.rfind(b"\n", start, at)
        if at < 0:
            break
    else:
        return at + 1
    if start == 0 or data[start - 1 : start] == b"\n":
        return start
    first = data.find(b"\n", start, len(data) - 1)
    return start if first < 0 else first + 1


def _whole_lines(data: bytes) -> bytes:
    """``data`` from its first whole line on; all of it if no line begins in it."""
    end = _LINE_END.search(data)
    return data[end.end() :] if end and end.end() < len(data) else data


class Cursor:
    """How far one output of one instance has been shown. Its methods return the lines to show now.

    :param anew: line to show where the output begins anew because the instance was started again.
    :param slides: whether it is known that windows are tails.
    :param window: most bytes of a window.
    """

    def __init__(self, anew: str = "[started again]", *, slides: bool = False, window: int = WINDOW) -> None:
        self.slides = slides
        #: Whether the output itself has told that it begins anew.
        self.restarted = False
        self._anew = anew
        self._window = window
        self._begin()

    def _begin(self) -> None:
        self._lines = Lines()
        #: The end of what was seen, without gaps; no longer than a window.
        self._seen = b""
        #: Bytes seen in all.
        self._count = 0
        #: Whether what was seen has a gap, or does not begin with the output.
        self._gap = False
        #: Whether the first window was full: it may not have begun where the output does.
        self._doubt = False
        self._last = b""
        self._longest = 0

    @property
    def cut(self) -> bool:
        """Whether there may be output behind what the last window showed."""
        return self._full(self._last) and not self.slides

    def _full(self, window: bytes) -> bool:
        return len(window) >= self._window - _SLACK

    def preview(self, window: bytes) -> list[str]:
        """Take a window in."""
        if not window or window == self._last:
            return []
        self._window = max(self._window, len(window))
        shrunk = len(window) < self._longest - _SLACK
        if not self._count:
            lines = self._first(window)
        else:
            shared = overlap(self._seen, window)
            # A window that goes on from the very first byte is a head that has grown.
            sure = shared >= _SURE or shared == self._count
            if not sure and window in self._seen:
                return []  # an older answer, or a new run of the instance that prints the same so far
            if not sure and shrunk:
                # Neither head nor tail ever gets shorter.
                lines = self.restart()
                self.restarted = True
                lines += self._first(window)
            elif shared:
                lines = self._go_on(window, shared, sure)
            else:
                lines = self._jump(window, whole=not self._full(window))
        self._last = window
        self._longest = max(self._longest, len(window))
        return lines

    def _first(self, window: bytes) -> list[str]:
        full = self._full(window)
        if full and self.slides:
            self._gap = True
            self._take(window)
            return [BEGINNING_LOST, *self._lines.feed(_whole_lines(window))]
        self._doubt = full
        self._take(window)
        return self._lines.feed(window)

    def _go_on(self, window: bytes, shared: int, sure: bool) -> list[str]:
        notes: list[str] = []
        if not sure:
            notes.append(MAYBE_LOST)
        elif shared < len(self._seen):
            self.slides = True
            notes += self._beginning_lost()
        new = window[shared:]
        self._take(new)
        return notes + self._lines.feed(new)

    def _jump(self, data: bytes, *, whole: bool) -> list[str]:
        """Go on with ``data``, after a gap."""
        lines = [*self._lines.flush(), LOST]
        self._gap, self._doubt, self._seen = True, False, b""
        self._take(data)
        return lines + self._lines.feed(data if whole else _whole_lines(data))

    def _beginning_lost(self) -> list[str]:
        if not self._doubt:
            return []
        self._gap, self._doubt = True, False
        return [BEGINNING_LOST]

    def _take(self, data: bytes) -> None:
        self._count += len(data)
        self._seen = (self._seen + data)[-self._window :]

    def locate(self, size: int, read: Callable[[int, int], bytes]) -> int | None:
        """Find the place in the whole output, as COS holds it, where what was seen ends.

        Of several such places the last one is taken, unless what was seen seems to have no gap.

        :param size: bytes of the whole output.
        :param read: reads so many bytes from an offset.
        :return: ``None`` if it is not found near the end: then it is another output, or much was missed.
        """
        if not self._count:
            return 0
        length = len(self._seen)
        if not self._gap and self._count <= size and read(self._count - length, length) == self._seen:
            return self._count
        start = max(0, size - _SEARCH)
        found = read(start, size - start).rfind(self._seen) if size > start else -1
        return None if found < 0 else start + found + length

    def enter(self, offset: int) -> list[str]:
        """Go over to the whole output, at the place that :meth:`locate` has found."""
        return [] if offset == self._count else self._beginning_lost()

    def more(self, data: bytes) -> list[str]:
        """Take in what follows."""
        self._take(data)
        return self._lines.feed(data)

    def leave(self, data: bytes) -> None:
        """Take in what follows, without showing it."""
        self._take(data)
        self._lines.drop()

    def skip(self, data: bytes, *, whole: bool) -> list[str]:
        """Take in what follows after a part that is not shown.

        :param whole: whether ``data`` begins with a whole line.
        """
        return self._jump(data, whole=whole)

    def restart(self) -> list[str]:
        """Begin with the output of a new run of the instance."""
        lines = [*self._lines.flush(), self._anew] if self._count else []
        self._begin()
        self.restarted = False
        return lines

    def flush(self) -> list[str]:
        """End: the unfinished last line."""
        return self._lines.flush()
