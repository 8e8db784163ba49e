from __future__ import annotations

import pytest

from airflow_provider_tcbatch.policies.job.failure_report import FailedInstance, failure_report, last_lines


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
        "What to do: exit code 137: the program was killed (SIGKILL), mostly because memory ran out: take an instance "
        "type with more memory, or let the program use less.",
        "Console: https://console",
    ]


@pytest.mark.parametrize(
    ("code", "reason", "shown"),
    [
        (2, "The command ended with exit code 2", False),
        (2, "task exited with non-zero status 2", False),
        (2, "CommandExitCode: 2", False),
        (2, "The command ended with exit code 3", True),
        (137, "killed: out of memory", True),
        (1, "exit code 1: disk full", True),
        (None, "The command ended", True),
        (3, "命令退出码 3", True),
    ],
)
def test_a_reason_that_is_the_exit_code_is_not_said_beside_it(code: int | None, reason: str, shown: bool) -> None:
    headline = FailedInstance("load", 3, code, reason).headline()
    assert (f"reason: {reason}" in headline) is shown
    assert code is None or f"exit code {code}" in headline


def test_kept_machines_are_mentioned() -> None:
    assert "billed" in failure_report("job-1", "FAILED_INTERRUPTED")


def test_at_most_five_instances_are_shown() -> None:
    failed = [FailedInstance("t", number) for number in range(8)]
    report = failure_report("job-1", "FAILED", failed=failed, failed_count=8, total_count=8)
    assert report.count("- task") == 5
    assert "... and 3 more" in report


def test_last_lines_leaves_out_blank_ones() -> None:
    assert last_lines("a\n \nb\n\nc", 2) == ["b", "c"]


@pytest.mark.parametrize(
    ("instances", "words"),
    [
        ([FailedInstance("t", 0, 127), FailedInstance("t", 1, 127), FailedInstance("t", 2, 1)], ["was not found"]),
        ([FailedInstance("t", 0, 126), FailedInstance("t", 1, 139)], ["can't be executed", "SIGSEGV"]),
        ([FailedInstance("t", 0, None, "InternalError.CallCvm:ResourcesSoldOut.Spec")], ["no stock"]),
        ([FailedInstance("t", 0, None, "Something.New")], ["no program of it", "somebody terminated it"]),
        ([FailedInstance("t", 0, 1, "The command ended with exit code 1")], []),
        ([], []),
    ],
)
def test_what_is_known_to_help_is_said_once(instances: list[FailedInstance], words: list[str]) -> None:
    advice = [line for line in failure_report("job-1", "FAILED", failed=instances).splitlines() if "What to do" in line]
    assert len(advice) == max(len(words) - ("somebody terminated it" in words), 0)
    assert all(word in "".join(advice) for word in words)


def test_a_job_without_instances_may_say_itself_what_to_change() -> None:
    assert "no stock" in failure_report("job-1", "FAILED", reason="InternalError.CallCvm:ResourcesSoldOut.Spec")
