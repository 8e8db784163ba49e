from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_tcbatch.policies.arguments import number_of, selection, several_of, text_of


@pytest.mark.parametrize(
    ("given", "kind", "found"),
    [
        ("job-1", str, ["job-1"]),
        (["job-2", "job-1", "job-2"], str, ["job-2", "job-1"]),
        ("['job-1', 'job-2']", str, ["job-1", "job-2"]),
        ('["job-1", "job-2"]', str, ["job-1", "job-2"]),
        ("None", str, []),
        ("", str, []),
        (None, str, []),
        ("[1, 2]", int, [1, 2]),
        (["3", 4], int, [3, 4]),
    ],
)
def test_several(given: Any, kind: type, found: list[Any]) -> None:
    assert several_of("ids", given, kind) == found


@pytest.mark.parametrize(("given", "kind"), [([""], str), ([1], str), ("[1]", str), ([True], int), (-1, int)])
def test_what_is_none_of_several(given: Any, kind: type) -> None:
    with pytest.raises(ValueError, match=r"ids holds .*; write an"):
        several_of("ids", given, kind)


@pytest.mark.parametrize(
    ("given", "found"),
    [("all", None), (" ALL ", None), (3, [3]), ([1, 2], [1, 2]), ("0-2, 5, 1", [0, 1, 2, 5]), ("[4, 5]", [4, 5])],
)
def test_selections(given: Any, found: Any) -> None:
    assert selection(given) == found


@pytest.mark.parametrize("given", ["9-1", "first", "", [], "[]", [-1], None])
def test_what_is_no_selection(given: Any) -> None:
    with pytest.raises(ValueError, match=r"indexes .*; write "):
        selection(given)


def test_names_and_numbers() -> None:
    assert text_of("name", " nightly ") == "nightly"
    assert (number_of("nodes", "2"), number_of("nodes", 0)) == (2, 0)
    for given in ("", "None", None, 3):
        with pytest.raises(ValueError, match=r"name is .*; write one name"):
            text_of("name", given)
    for wrong in ("many", -1, True, None, 1.5):
        with pytest.raises(ValueError, match=r"nodes is .*; write a number from 0"):
            number_of("nodes", wrong)
