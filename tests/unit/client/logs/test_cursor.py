from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.client.logs.cursor import BEGINNING_LOST, LOST, MAYBE_LOST, Cursor, Lines, overlap

Value = TypeVar("Value")

NOTES = {LOST, MAYBE_LOST, BEGINNING_LOST, "[started again]"}

#: Text that repeats itself all the time, with characters of several bytes and broken ones.
REPETITIVE = st.lists(st.sampled_from([b"a", b"ab", b".\n", b"\n", "é".encode(), "步".encode(), b"\xff"]), max_size=80)


def numbered(rests: Sequence[str]) -> bytes:
    """Lines of which no two are alike, short enough for a whole number in any 32 bytes."""
    return "".join(f"{number:04d} {rest}\n" for number, rest in enumerate(rests)).encode()


NUMBERED = st.lists(st.text("ab é", max_size=8), min_size=1, max_size=60).map(numbered)


def lines_of(data: bytes) -> list[str]:
    lines = [line.decode("utf-8", "replace") for line in data.split(b"\n")]
    return lines if lines[-1] else lines[:-1]


def head(data: bytes, size: int) -> bytes:
    return data[:size]


def tail(data: bytes, size: int) -> bytes:
    return data[-size:]


def watch(
    cursor: Cursor, data: bytes, sizes: Sequence[int], window: int, cut: Callable[[bytes, int], bytes]
) -> list[str]:
    """Look at an output each time when it has grown to one of ``sizes``."""
    return [line for size in sizes for line in cursor.preview(cut(data[:size], window))]


def finish(cursor: Cursor, data: bytes, chunk: int) -> list[str]:
    """Read the object that holds the whole output."""
    start = cursor.locate(len(data), lambda start, size: data[start : start + size])
    if start is None:
        return [LOST]
    lines = cursor.enter(start)
    for offset in range(start, len(data), chunk):
        lines += cursor.more(data[offset : offset + chunk])
    return lines + cursor.flush()


class Draw(Protocol):
    """What both kinds of Hypothesis' draws can do."""

    def __call__(self, strategy: st.SearchStrategy[Value], /) -> Value: ...


def growth(draw: Draw, data: bytes, most: int | None = None) -> list[int]:
    """Sizes at which a growing output is looked at, no more than ``most`` apart."""
    sizes = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    if most is None:
        return sizes
    steps = [0, *sizes, len(data)]
    between = [range(low + most, high, most) for low, high in pairwise(steps)]
    return sorted({*sizes, len(data), *(size for some in between for size in some)})


def is_part_in_order(part: str, whole: str) -> bool:
    rest = iter(whole)
    return all(letter in rest for letter in part)


# -- lines -----------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", "é".encode(), b"\xff"]), max_size=40), st.data())
def test_how_an_output_is_cut_does_not_matter(parts: list[bytes], data: st.DataObject) -> None:
    text = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    lines = Lines()
    shown = [line for low, high in pairwise([0, *cuts, len(text)]) for line in lines.feed(text[low:high])]
    assert shown + lines.flush() == lines_of(text.replace(b"\r\n", b"\n"))


def test_the_last_line_waits_until_it_is_whole() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == ["one"]
    assert lines.feed(b"o") == []
    assert lines.feed(b"\n") == ["two"]
    assert lines.feed("步".encode()[:2]) == []
    assert lines.feed("步".encode()[2:] + b"\nend\r") == ["步"]
    assert lines.flush() == ["end"]
    assert lines.flush() == []


def test_of_a_progress_bar_the_last_state_is_kept() -> None:
    lines = Lines()
    assert lines.feed(b"go\n\r 1%\r 2%\r 3%\r") == ["go", " 2%"]
    assert lines.feed(b" 4%\r100%\ndone\r\nnext") == [" 4%", "100%", "done"]


def test_what_never_ends_a_line_is_shown_in_parts() -> None:
    lines = Lines()
    shown = lines.feed(b"x" * 200_000)
    assert [len(line) for line in shown] == [65536] * 3
    assert sum(map(len, shown + lines.flush())) == 200_000


@given(st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20))
def test_the_overlap_is_the_longest(front: bytes, shared: bytes, back: bytes) -> None:
    seen, window = front + shared, shared + back
    size = overlap(seen, window)
    assert len(shared) <= size <= min(len(seen), len(window))
    assert seen.endswith(window[:size])


# -- heads -----------------------------------------------------------------------------------------------------


@given(REPETITIVE.map(b"".join) | NUMBERED, st.integers(1, 200), st.booleans(), st.data())
def test_heads_show_each_line_once(data: bytes, window: int, stored: bool, draws: st.DataObject) -> None:
    sizes = growth(draws.draw, data)
    cursor = Cursor(window=window)
    shown = watch(cursor, data, sizes, window, head)
    if stored:
        shown += finish(cursor, data, draws.draw(st.integers(1, 100)))
        assert shown == lines_of(data)
    else:
        assert shown + cursor.flush() == lines_of(data[: sizes[-1]][:window] if sizes else b"")


def test_windows_larger_than_documented() -> None:
    data = numbered(["x"] * 1000)
    cursor = Cursor(window=100)
    assert watch(cursor, data, [1000, 2500, 5000], 4000, head) == lines_of(data[:4000])[:-1]


@given(NUMBERED, st.integers(1, 200), st.data())
def test_an_older_answer_shows_nothing_again(data: bytes, window: int, draws: st.DataObject) -> None:
    sizes = draws.draw(st.permutations(growth(draws.draw, data)))
    cursor = Cursor(window=window)
    watch(cursor, data, sizes, window, head)
    before = cursor.flush()
    again = watch(cursor, data, sizes, window, head)
    assert (again, len(before) <= 1) == ([], True)


# -- tails -----------------------------------------------------------------------------------------------------


@given(NUMBERED, st.integers(64, 300), st.booleans(), st.data())
def test_tails_show_each_line_once(data: bytes, window: int, stored: bool, draws: st.DataObject) -> None:
    cursor = Cursor(window=window)
    shown = watch(cursor, data, growth(draws.draw, data, window - 32), window, tail)
    shown += finish(cursor, data, draws.draw(st.integers(1, 100))) if stored else cursor.flush()
    assert shown == lines_of(data)


@given(NUMBERED, st.integers(64, 300), st.data())
def test_tails_of_an_output_that_was_found_late(data: bytes, window: int, draws: st.DataObject) -> None:
    """The first window begins somewhere; that something was before it is said as soon as it is sure."""
    first = draws.draw(st.integers(1, len(data)))
    sizes = [first, *(size for size in growth(draws.draw, data, window - 32) if size > first)]
    seen = data[max(0, first - window) :]
    missed = first > window

    cursor = Cursor(window=window)
    shown = watch(cursor, data, sizes, window, tail) + finish(cursor, data, 100)
    assert [line for line in shown if line not in NOTES] == lines_of(seen)
    if not window - 3 <= first <= window:  # a full window may be all there is, or not
        assert [line for line in shown if line in NOTES] == [BEGINNING_LOST] * missed

    knowing = Cursor(window=window, slides=True)
    shown = watch(knowing, data, sizes, window, tail) + knowing.flush()
    if first >= window - 3:
        whole = seen.partition(b"\n")[2] if b"\n" in seen[: min(first, window) - 1] else seen
        assert shown == [BEGINNING_LOST, *lines_of(whole)]
    else:
        assert shown == lines_of(data)


@given(REPETITIVE.map(b"".join) | NUMBERED, st.integers(1, 200), st.data())
def test_tails_never_show_anything_twice(data: bytes, window: int, draws: st.DataObject) -> None:
    """Whatever is printed and however much is missed: what is shown is the output, with parts left out at most."""
    cursor = Cursor(window=window)
    shown = watch(cursor, data, growth(draws.draw, data), window, tail) + cursor.flush()
    # Bytes that are no text would come out as more than one sign where a character is cut.
    text = "".join(line for line in shown if line not in NOTES)
    assert is_part_in_order(text.replace("�", ""), data.decode("utf-8", "ignore"))


@given(st.lists(st.integers(1, 3000), max_size=10), st.integers(6, 300))
def test_equal_lines_are_all_shown_with_the_object(growths: list[int], window: int) -> None:
    """Tails look all the same then: what they can't tell is made good by the object."""
    growths = [1, *growths]
    data = b".\n" * sum(growths)
    sizes = [2 * sum(growths[: count + 1]) for count in range(len(growths))]
    cursor = Cursor(window=window)
    before = [line for line in watch(cursor, data, sizes, window, tail) if line not in NOTES]
    assert len(before) <= sum(growths)
    after = [line for line in finish(cursor, data, 1000) if line not in NOTES]
    assert before + after == ["."] * sum(growths)


def test_tails_that_do_not_meet_say_so() -> None:
    cursor = Cursor(window=20)
    assert cursor.preview(b"one\ntwo\nthr") == ["one", "two"]
    # What was seen of a line is shown before the gap, what is left of one behind it is not.
    assert cursor.preview(b"ve\nsix\nseven\neight\nn") == ["thr", LOST, "six", "seven", "eight"]
    assert cursor.flush() == ["n"]


def test_a_tail_within_one_long_line_is_shown() -> None:
    cursor = Cursor(window=20)
    assert cursor.preview(b"begin\n") == ["begin"]
    assert cursor.preview(b"-" * 20) == [LOST]
    assert cursor.preview(b"-" * 15 + b" end\n") == [MAYBE_LOST, "-" * 20 + " end"]


def test_an_overlap_that_may_be_chance_is_told() -> None:
    cursor = Cursor(window=20)
    assert cursor.preview(b"first: ok\n") == ["first: ok"]
    assert cursor.preview(b": ok\nsecond: ok\nx: ok") == [MAYBE_LOST, "second: ok"]
    assert cursor.flush() == ["x: ok"]


# -- another run -----------------------------------------------------------------------------------------------


def test_an_output_that_became_shorter_is_that_of_another_run() -> None:
    cursor = Cursor()
    assert cursor.preview(b"one\ntwo\nthree\nfo") == ["one", "two", "three"]
    assert cursor.preview(b"ONE\n") == ["fo", "[started again]", "ONE"]
    assert cursor.restarted
    assert cursor.preview(b"ONE\nTWO\n") == ["TWO"]


def test_another_run_that_is_told_of_is_shown_from_its_beginning() -> None:
    cursor = Cursor()
    assert cursor.preview(b"one\ntwo\nthr") == ["one", "two"]
    assert cursor.preview(b"one\n") == []  # the same so far: this may be an answer that was late
    assert cursor.restart() == ["thr", "[started again]"]
    assert not cursor.restarted
    assert cursor.preview(b"one\n") == ["one"]
    assert Cursor().restart() == []


# -- going over to the object ----------------------------------------------------------------------------------


def test_of_a_large_object_only_the_end_is_searched() -> None:
    data = numbered(["x" * 20] * 100_000)
    asked: list[tuple[int, int]] = []

    def read(start: int, size: int) -> bytes:
        asked.append((start, size))
        return data[start : start + size]

    cursor = Cursor()
    cursor.preview(tail(data[:-1000], 2048))
    assert cursor.locate(len(data), read) == len(data) - 1000
    assert asked == [(0, 2048), (len(data) - 256 * 1024, 256 * 1024)]
    assert cursor.enter(len(data) - 1000)[0] == BEGINNING_LOST

    lost = Cursor()
    lost.preview(tail(data[:1_000_000], 2048))
    assert lost.locate(len(data), read) is None
    assert lost.skip(b"half\nwhole\n", whole=False)[-2:] == [LOST, "whole"]


def test_of_several_places_in_the_object_the_last_is_taken() -> None:
    """Rather is something left out than shown twice."""
    cursor = Cursor(window=8, slides=True)
    assert cursor.preview(b"f\none\ntwo\n") == [BEGINNING_LOST, "one", "two"]
    data = b"f\none\ntwo\nthree\nf\none\ntwo\nfour\n"
    assert cursor.locate(len(data), lambda start, size: data[start : start + size]) == data.index(b"four")


def test_an_object_of_another_run_is_not_taken_for_this_one() -> None:
    cursor = Cursor()
    cursor.preview(b"second run\n")
    data = b"first run\nfailed\n"
    assert cursor.locate(len(data), lambda start, size: data[start : start + size]) is None
    assert cursor.skip(data, whole=True) == [LOST, "first run", "failed"]


@pytest.mark.parametrize(
    ("windows", "slides", "cut"),
    [([], False, False), (["short\n"], False, False), (["x" * 2048], False, True), (["x" * 2048], True, False)],
)
def test_whether_more_may_be_there(windows: list[str], slides: bool, cut: bool) -> None:
    cursor = Cursor(slides=slides)
    for window in windows:
        cursor.preview(window.encode())
    assert cursor.cut is cut
