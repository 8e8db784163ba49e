"""Every knob of the emulator's behaviour, in one typed place."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt


def _default_capacity(settings: dict[str, Any]) -> int:
    # A scripted instance uses nothing of this machine.
    return 1_000_000 if settings.get("mode") == "simulate" else 2 * (os.cpu_count() or 1)


class Settings(BaseModel):
    """How the emulator behaves; may be changed while it runs.

    Where Tencent documents a behaviour the default follows it. Where the documentation is silent the default is
    the most plausible reading and the setting is the switch to the other one.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    # -- jobs: what they do ----------------------------------------------------------------------------------
    mode: Literal["process", "simulate"] = Field(
        "process", description="Whether instances run their command, or only take time and end as the script says."
    )
    simulated_seconds: NonNegativeFloat = Field(
        60.0, description="mode simulate: how long an instance is RUNNING, unless EMULATOR_SECONDS among EnvVars says."
    )
    simulated_exit_code: int = Field(
        0, ge=0, le=255, description="mode simulate: an instance's exit code, unless EMULATOR_EXIT_CODE says."
    )
    speed: float = Field(
        1.0,
        gt=0,
        le=1_000_000,
        description="How many times faster the clock of jobs and machines runs. Commands do not run faster.",
    )

    # -- jobs: pace ------------------------------------------------------------------------------------------
    submitted_seconds: NonNegativeFloat = Field(
        0.2, description="How long a job stays SUBMITTED before it is parsed. TerminateJob is refused meanwhile."
    )
    pending_seconds: NonNegativeFloat = Field(
        0.0, description="How long a task stays PENDING after its dependencies are met."
    )
    runnable_seconds: NonNegativeFloat = Field(
        0.0, description="How long an instance stays RUNNABLE before it asks for capacity."
    )
    starting_seconds: NonNegativeFloat = Field(
        0.2, description="How long an instance stays STARTING (a real machine boots for a minute or two)."
    )
    terminate_seconds: NonNegativeFloat = Field(
        0.1, description="How long a termination is pending (NextAction TERMINATING) before it takes effect."
    )
    kill_grace_seconds: NonNegativeFloat = Field(
        2.0, description="Time between SIGTERM and SIGKILL when an instance is stopped."
    )

    # -- jobs: resources -------------------------------------------------------------------------------------
    capacity: PositiveInt = Field(
        default_factory=_default_capacity,
        description="Instances that run at the same time over all jobs. Default: twice the number of CPUs, "
        "a million in mode simulate.",
    )
    interrupted_holds_capacity: bool = Field(
        False, description="Whether a FAILED_INTERRUPTED instance keeps its slot of the capacity until terminated."
    )
    job_quota: PositiveInt = Field(1000, description="Job records an account may hold (LimitExceeded.JobQuota).")
    max_tasks: PositiveInt = Field(10_000, description="Tasks in one job.")
    max_task_instances: PositiveInt = Field(10_000, description="Instances of one task.")
    max_retry_count: PositiveInt = Field(100, description="Largest MaxRetryCount accepted.")
    max_open_log_bytes: PositiveInt = Field(
        256 * 1024 * 1024, description="Largest part of stdout and of stderr that is uploaded for an instance."
    )

    # -- jobs: behaviour the documentation leaves open ---------------------------------------------------------
    client_token_window_seconds: NonNegativeFloat = Field(86_400.0, description="How long a ClientToken is remembered.")
    client_token_mismatch: Literal["same_job", "error", "new_job"] = Field(
        "same_job",
        description="A known ClientToken with another body: answer the first job, refuse, or make a new job.",
    )
    terminate_submitted_error: Literal["UnsupportedOperation", "ResourceInUse.Job"] = Field(
        "UnsupportedOperation", description="Error code of TerminateJob while the job is SUBMITTED."
    )
    describe_jobs_unknown: Literal["omit", "error"] = Field(
        "omit", description="Unknown ids in DescribeJobs are left out, or refused with ResourceNotFound.Job."
    )
    lenient_numbers: bool = Field(
        False, description='Whether a number may be sent as a string ("1") as some of Tencent\'s samples do.'
    )
    legacy_cmq_target: Literal["deliver", "drop"] = Field(
        "deliver",
        description="Events of jobs with NotificationTarget CMQ (the default, a retired product): deliver or drop.",
    )

    # -- logs --------------------------------------------------------------------------------------------------
    log_excerpt: Literal["tail", "head"] = Field(
        "tail", description="Which 2048 bytes of a log DescribeTaskLogs answers."
    )
    log_data_uri_prefix: bool = Field(
        False, description="Whether DescribeTaskLogs prefixes values with data:text/plain;charset=utf-8;base64,."
    )
    log_upload_lag_seconds: NonNegativeFloat = Field(
        0.0, description="How long after an instance's end its logs appear in COS. 0: before the end is visible."
    )

    # -- events ------------------------------------------------------------------------------------------------
    events: Literal["on", "off"] = Field("on", description="Whether events are published at all.")
    event_base64: bool = Field(False, description="Whether event bodies are Base64 encoded.")

    # -- queues ------------------------------------------------------------------------------------------------
    cmq_name_block_seconds: NonNegativeFloat = Field(
        30.0, description="How long the name of a deleted queue, topic or subscription cannot be used again."
    )
    cmq_speed: float = Field(
        1.0,
        gt=0,
        le=1_000_000,
        description="How many times faster the clock of queues runs; long polls stay as they are.",
    )
    cmq_max_poll_seconds: PositiveInt = Field(30, description="Longest pollingWaitSeconds accepted by a receive call.")

    # -- API ---------------------------------------------------------------------------------------------------
    timestamp_window_seconds: NonNegativeFloat = Field(
        300.0, description="Largest accepted difference between a request's timestamp and the emulator's clock."
    )
    clock_skew_seconds: float = Field(
        0.0,
        ge=-1e9,
        le=1e9,
        description="How far the service's clock is ahead of this machine's (negative: behind).",
    )
    max_request_bytes: PositiveInt = Field(10 * 1024 * 1024, description="Largest API 3.0 request body.")
    call_log_size: NonNegativeInt = Field(2000, description="Calls remembered for GET /_emulator/calls.")

    def updated(self, changes: dict[str, Any]) -> Settings:
        """A validated copy with some values replaced.

        :raises pydantic.ValidationError: for an unknown name or an impossible value.
        """
        return Settings.model_validate({**self.model_dump(exclude_unset=True), **changes})
