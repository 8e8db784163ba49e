from __future__ import annotations

import pytest

from airflow_provider_tcbatch.exceptions import JobFailed
from airflow_provider_tcbatch.policies.job.failure_report import FailedInstance, failure_report
from airflow_provider_tcbatch.text import visible

#: Clears a terminal, sets its title, rings its bell, colours it, ends a C string, deletes, and the same as one byte.
TRICKS = "\x1b[2J\x1b]0;owned\x07\x1b[31mred\x00\x7f\x9b2J"
SHOWN = r"\x1b[2J\x1b]0;owned\x07\x1b[31mred\x00\x7f\x9b2J"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (TRICKS, SHOWN),
        ("plain, täb\tand\nline", "plain, täb\tand\nline"),
        ("10 %\r20 %", r"10 %\x0d20 %"),
        (r"\x1b stays", r"\x1b stays"),
        ("", ""),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


def test_errors_show_escapes() -> None:
    assert str(JobFailed(f"it said: {TRICKS}", job_id="job-1")) == f"it said: {SHOWN}"


def test_a_failure_is_reported_without_escapes() -> None:
    failed = FailedInstance("main", 0, 1, reason=TRICKS, stderr=f"first\n{TRICKS}\n")
    report = failure_report("job-1", "FAILED", job_name=TRICKS, reason=TRICKS, failed=[failed])
    assert report.count(SHOWN) == 4
    assert not any((char < " " and char != "\n") or "\x7f" <= char <= "\x9f" for char in report)
