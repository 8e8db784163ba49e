from __future__ import annotations

from airflow_provider_tcbatch.policies.report import FailedInstance, failure_report, last_lines


def test_a_report_names_what_a_reader_needs() -> None:
    report = failure_report(
        "job-12345678",
        "FAILED",
        job_name="etl",
        failed=[FailedInstance("load", 3, 137, "killed", "ins-1", "first\n\nsecond\n")],
        failed_count=9,
        total_count=40,
        link="https://console",
    )
    assert report.splitlines() == [
        "Batch job job-12345678 (etl) ended as FAILED: 9 of 40 instances failed",
        "- task 'load' instance 3, exit code 137, reason: killed, on ins-1",
        "  last lines of stderr:",
        "    first",
        "    second",
        "... and 8 more failed instances",
        "Console: https://console",
    ]


def test_kept_machines_are_mentioned() -> None:
    assert "billed" in failure_report("job-1", "FAILED_INTERRUPTED")


def test_at_most_five_instances_are_shown() -> None:
    failed = [FailedInstance("t", number) for number in range(8)]
    report = failure_report("job-1", "FAILED", failed=failed, failed_count=8, total_count=8)
    assert report.count("- task") == 5
    assert "... and 3 more" in report


def test_last_lines_leaves_out_blank_ones() -> None:
    assert last_lines("a\n \nb\n\nc", 2) == ["b", "c"]
