"""The programs of the example job: every line of the table is read by exactly one shard."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

PROGRAMS = Path(__file__).parents[3] / "example_dags" / "flights"


@pytest.fixture(scope="module")
def transform() -> Iterator[ModuleType]:
    """The program, which finds its neighbours in its own folder as it does in a Batch instance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROGRAMS))
        yield importlib.import_module("transform")


@given(
    lines=st.lists(st.text(alphabet="abc,", min_size=0, max_size=8), max_size=30),
    shards=st.integers(1, 9),
    chunk=st.integers(1, 20),
    end_of_line=st.booleans(),
)
@example(lines=["a", "b"], shards=9, chunk=1, end_of_line=False)
@settings(deadline=None)
def test_shards_share_the_lines(
    transform: ModuleType, lines: list[str], shards: int, chunk: int, end_of_line: bool
) -> None:
    lines = [f"{number}:{line}" for number, line in enumerate(lines)]
    data = "\n".join(["header", *lines]).encode() + (b"\n" if end_of_line else b"")
    found = []
    for index in range(shards):
        first, last = len(data) * index // shards, len(data) * (index + 1) // shards
        rest = data[first:]
        chunks = [rest[start : start + chunk] for start in range(0, len(rest), chunk)]
        found += transform.shard(chunks, first, last)
    assert found == lines


def test_flights_without_an_arrival_count_as_flights_only(transform: ModuleType) -> None:
    columns = ["month", "arr_delay", "carrier"]
    groups = transform.aggregate(["1,5,AA", "1,NA,AA", "1,-7,AA", "2,,AA", "1,3,UA"], columns)
    assert groups == {"AA 1": [3, 2, -2], "AA 2": [1, 0, 0], "UA 1": [1, 1, 3]}


def test_merge_adds_the_parts(transform: ModuleType) -> None:
    merge = importlib.import_module("merge")
    parts = [{"UA 10": [1, 1, 4], "UA 9": [2, 0, 0]}, {"UA 10": [2, 2, 3]}]
    assert merge.table(parts).splitlines()[1:] == ["UA,9,2,0,0,", "UA,10,3,3,7,2.333"]
