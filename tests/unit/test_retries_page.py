"""The table of retries, clears, kills and crashes names tests: they must be there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "retries.md"


def test_every_test_that_the_page_names_exists() -> None:
    text = PAGE.read_text()
    links = dict(re.findall(r"^\[(\w+)\]: \.\./(\S+)$", text, re.MULTILINE))
    assert links
    known = {
        name
        for path in links.values()
        for name in re.findall(r"^(?:async )?def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)(?:\[\w+\])?`", text))
    assert len(named) > 15
    assert named <= known, sorted(named - known)


def test_every_row_of_the_table_is_shown() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| **")]
    assert len(rows) > 12
    for row in rows:
        assert re.search(r"`test_\w+", row), row
