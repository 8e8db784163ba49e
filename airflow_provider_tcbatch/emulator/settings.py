"""Every knob of the emulator's behaviour, in one typed place."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

if TYPE_CHECKING:
    from typing_extensions import Self


def _from_json(value: Any) -> Any:
    # On the command line a table or a list can only be written as text.
    return json.loads(value) if isinstance(value, str) else value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return value


Table = Annotated[dict[str, str], BeforeValidator(_from_json)]
Names = Annotated[list[str], BeforeValidator(_from_json)]


def _default_capacity(settings: dict[str, Any]) -> int:
    # A scripted instance uses nothing of this machine.
    return 1_000_000 if settings.get("mode") == "simulate" else 2 * (os.cpu_count() or 1)


class SettingsError(ValueError):
    """A setting that there is not, or that can't have that value.

    :param problems: what is wrong with which one, for people to read.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in problems))
        self.problems = problems


class Explained(BaseModel):
    """A model whose mistakes are told in sentences, wherever they are made."""

    @classmethod
    def unknown(cls, name: str) -> str:
        """What to say of a member that there is not."""
        raise NotImplementedError

    # To type checkers its arguments are its fields.
    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            with _explaining(type(self)):
                super().__init__(**values)

        def __setattr__(self, name: str, value: Any) -> None:
            with _explaining(type(self)):
                super().__setattr__(name, value)

        @classmethod
        def model_validate(cls, values: dict[str, Any]) -> Self:
            return cls(**values)


@contextlib.contextmanager
def _explaining(model: type[Explained]) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise SettingsError(
            [
                (
                    ".".join(map(str, item["loc"])),
                    model.unknown(str(item["loc"][-1])) if item["type"] in _NOT_THERE else item["msg"],
                )
                for item in error.errors()
                # A default that was not computed because something else is wrong is nobody's mistake.
                if item["type"] != "default_factory_not_called"
            ]
        ) from None


#: pydantic's words for a member that there is not: of a new object, and of one that is changed.
_NOT_THERE = frozenset({"extra_forbidden", "no_such_attribute"})


def as_text(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


class Settings(Explained):
    """How the emulator behaves; may be changed while it runs.

    Where Tencent documents a behaviour the default follows it. Where the documentation is silent the default is
    the most plausible reading and the setting is the switch to the other one.
    """

    # Infinity is no JSON: the control API could neither show it nor wait for it.
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

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
    job_quota_counts_ended: bool = Field(
        True, description="Whether jobs that have ended, and were not deleted, count against job_quota."
    )
    task_name_length: PositiveInt = Field(4096, description="Characters of a TaskName; the limit is not documented.")
    task_name_pattern: Annotated[str, AfterValidator(_pattern)] = Field(
        "[^\\0]*",
        description="Regular expression that the whole of a TaskName matches; what a name may hold is not documented.",
    )
    env_name_length: PositiveInt = Field(4096, description="Characters of an EnvName; the limit is not documented.")
    env_description_length: PositiveInt = Field(
        65_536, description="Characters of an EnvDescription; the limit is not documented."
    )
    max_tasks: PositiveInt = Field(10_000, description="Tasks in one job.")
    max_task_instances: PositiveInt = Field(10_000, description="Instances of one task.")
    max_job_ids: PositiveInt = Field(100, description="JobIds in one call of DescribeJobs.")
    max_notifications: PositiveInt = Field(100, description="Notifications of a job or compute environment.")
    max_event_vars: PositiveInt = Field(100, description="EventVars of one event.")
    max_retry_count: PositiveInt = Field(
        2**63 - 1, description="Largest MaxRetryCount accepted; there is one, but it is not documented."
    )
    max_open_log_bytes: PositiveInt = Field(
        256 * 1024 * 1024, description="Largest part of stdout and of stderr that is uploaded for an instance."
    )

    max_package_bytes: PositiveInt = Field(
        1024 * 1024 * 1024, description="Largest application package, as sent and unpacked."
    )
    max_mapping_bytes: PositiveInt = Field(
        1024 * 1024 * 1024, description="Largest sum of what an instance's InputMappings bring, and of its outputs."
    )
    private_mounts: Literal["auto", "off"] = Field(
        "auto",
        description="Whether mappings may name absolute paths, which takes a private mount namespace: where the "
        "system allows one, or never.",
    )
    docker_command: str = Field("docker", description="The command that talks to a Docker engine.")
    monitor_period_seconds: PositiveFloat = Field(
        1.0, description="How often running instances are measured for DescribeJobMonitorData."
    )

    # -- machines and compute environments ---------------------------------------------------------------------
    node_submitted_seconds: NonNegativeFloat = Field(0.1, description="How long a compute node stays SUBMITTED.")
    node_pending_seconds: NonNegativeFloat = Field(0.1, description="How long a compute node stays PENDING.")
    node_creating_seconds: NonNegativeFloat = Field(
        0.3, description="How long a compute node stays CREATING, before it is CREATED or CREATION_FAILED."
    )
    node_created_seconds: NonNegativeFloat = Field(
        0.2, description="How long a compute node stays CREATED (booting) before it is RUNNING; also a reboot."
    )
    node_deleting_seconds: NonNegativeFloat = Field(0.2, description="How long a compute node stays DELETING.")
    env_deleting_seconds: NonNegativeFloat = Field(
        0.2, description="How long a compute environment has NextAction DELETING before it is gone."
    )
    env_busy_seconds: NonNegativeFloat = Field(
        0.0, description="How long after one change an environment refuses the next (env_busy_error)."
    )
    resource_retry_scale: NonNegativeFloat = Field(
        0.001, description="Factor for the documented waits (600 to 3600 s) before a machine is created again."
    )
    cvm_failures: Table = Field(
        {},
        description="Machines that cannot be created: reason by instance type, image id, zone or `*`, as JSON. "
        "A reason is no_stock, quota, image or a CVM error code; `no_stock*2` fails twice, then no more; `ok` never "
        "fails.",
    )
    sold_out_types: Names = Field(
        ["GN10X.2XLARGE40"], description="Instance types listed as SOLD_OUT, which cannot be created, as JSON."
    )
    unavailable_zones: Names = Field(
        [], description="Zones refused with InvalidParameterValue.UnavailableZone, as JSON."
    )
    unattachable_instances: Names = Field(
        [], description="Ids of instances that AttachInstances refuses, as if stopped or spot, as JSON."
    )
    compute_env_quota: PositiveInt = Field(10, description="Compute environments of an account.")
    task_template_quota: PositiveInt = Field(50, description="Task templates of an account.")
    max_nodes: PositiveInt = Field(2000, description="Largest DesiredComputeNodeCount.")
    cpu_quota: PositiveInt = Field(
        100_000, description="CPUs of all compute environments (LimitExceeded.CpuQuota). Old documents say 1000."
    )

    # -- machines and environments: behaviour the documentation leaves open --------------------------------------
    env_busy_error: Literal[
        "UnsupportedOperation.ComputeEnvAcceptOtherRequest", "UnsupportedOperation.AcceptOtherRequest"
    ] = Field("UnsupportedOperation.ComputeEnvAcceptOtherRequest", description="Error code of env_busy_seconds.")
    delete_env_with_nodes: Literal["refuse", "destroy"] = Field(
        "refuse", description="DeleteComputeEnv while nodes exist: refuse (ComputeEnvOperation), or destroy them."
    )
    terminate_node: Literal["shrink", "replace"] = Field(
        "shrink", description="TerminateComputeNode: lower DesiredComputeNodeCount, or make another node."
    )
    destroy_activity_type: str = Field(
        "TERMINATE_COMPUTE_NODE", description="ComputeNodeActivityType of a node's destruction."
    )
    shrink_busy_nodes: bool = Field(
        False, description="Whether a lower DesiredComputeNodeCount may take nodes on which an instance runs."
    )
    interrupted_holds_node: bool = Field(
        True, description="Whether a FAILED_INTERRUPTED instance keeps its environment's node until terminated."
    )
    terminate_with_env_id: Literal["allow", "refuse"] = Field(
        "allow",
        description="Terminating instances of an environment: allow, or refuse with TerminateOperationWithEnvId "
        "as in 2018.",
    )
    unknown_instance_types: Literal["fail", "accept"] = Field(
        "fail", description="Instance types that do not exist: their creation fails, or they are made up."
    )
    unknown_filter_error: Literal["InvalidFilter", "InvalidParameterValue.InvalidFilter"] = Field(
        "InvalidFilter", description="Error code of an unknown filter, where both are documented."
    )
    commands: Literal["sequence", "per_instance"] = Field(
        "sequence", description="Application.Commands: each instance runs all in order, or instance i the i-th."
    )
    upload_outputs: Literal["always", "success"] = Field(
        "always", description="Whether OutputMappings are stored also when the command failed."
    )
    batch_activated: bool = Field(
        True, description="Whether the account may use Batch (UnauthorizedOperation.UserNotAllowedToUseBatch)."
    )

    # -- jobs: behaviour the documentation leaves open ---------------------------------------------------------
    task_failure: Literal["at_end", "at_once", "stop_others"] = Field(
        "at_end",
        description="When a task shows that an instance failed for good: once all instances have ended; at once, while "
        "others go on; or its other instances are stopped.",
    )
    job_failure: Literal["at_end", "at_once", "stop_others"] = Field(
        "at_end",
        description="When a job shows that a task failed: once no task goes on; at once, while others go on; or its "
        "other tasks are stopped.",
    )
    failed_and_interrupted: Literal["FAILED_INTERRUPTED", "FAILED"] = Field(
        "FAILED_INTERRUPTED", description="State of a task or job of which some parts are FAILED and some interrupted."
    )
    unmet_tasks: Literal["fail", "stay"] = Field(
        "fail",
        description="A task whose dependencies cannot be met any more: FAILED, or it stays as it is in the failed job.",
    )
    skipped_states: Annotated[list[Literal["PENDING", "RUNNABLE", "STARTING"]], BeforeValidator(_from_json)] = Field(
        [], description="States that are never shown, as JSON; what would be in one shows the state before it."
    )
    state_reasons: Literal["words", "none"] = Field(
        "words",
        description="StateReason and StateDetailedReason of jobs and instances: the emulator's words, or empty.",
    )
    terminate_events: bool = Field(True, description="Whether what TerminateJob ends is told by events.")
    job_retention_seconds: NonNegativeFloat = Field(
        0.0, description="How long after its end a job is forgotten as if deleted. 0: never."
    )
    fast_interrupt: Literal["same", "no_retry", "whole_task"] = Field(
        "same",
        description="FailedAction FAST_INTERRUPT: as INTERRUPT; without the retries of MaxRetryCount; or the task's "
        "other instances are interrupted too.",
    )
    client_token_window_seconds: NonNegativeFloat = Field(86_400.0, description="How long a ClientToken is remembered.")
    client_token_mismatch: Literal["same_job", "error", "new_job"] = Field(
        "same_job",
        description="A known ClientToken with another body: answer the first job, refuse, or make a new job.",
    )
    client_token_repeat: Literal["same_job", "error"] = Field(
        "same_job", description="A known ClientToken with the same body: answer the first job, or refuse."
    )
    terminate_submitted_error: Literal["UnsupportedOperation", "ResourceInUse.Job"] = Field(
        "UnsupportedOperation", description="Error code of TerminateJob while the job is SUBMITTED."
    )
    describe_jobs_unknown: Literal["omit", "error"] = Field(
        "omit", description="Unknown ids in DescribeJobs are left out, or refused with ResourceNotFound.Job."
    )
    retry_jobs_seconds: NonNegativeFloat = Field(
        0.0, description="How long a job still reads FAILED after RetryJobs has accepted it."
    )
    retry_jobs_atomic: bool = Field(
        True,
        description="RetryJobs with a job that cannot be retried: none is, or those that can are and the call is "
        "refused all the same.",
    )
    listing_order: Literal["newest", "oldest"] = Field("newest", description="What listings begin with.")
    name_filter: Literal["exact", "contains"] = Field(
        "exact", description="Filters job-name, env-name, task-template-name: the whole name, or any part of it."
    )
    empty_values: Literal["mixed", "null", "empty", "absent"] = Field(
        "mixed",
        description="Times that are not reached, StateReason and Tags without content: null times beside empty texts "
        "and lists; all null; all empty; all left out.",
    )
    lenient_types: bool = Field(
        True,
        description='Whether numbers and truth values may be sent as strings ("1", "TRUE") as Tencent\'s samples do, '
        "and truth values as 1 and 0.",
    )
    undocumented_values: Literal["accept", "refuse"] = Field(
        "accept",
        description="Values of which Tencent says neither that they are taken nor that they are refused (the page "
        "Rules lists them as open).",
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
    log_base64_padding: bool = Field(
        True, description="Whether DescribeTaskLogs pads Base64 with =; one of Tencent's samples has none."
    )
    logs_after_end: bool = Field(
        True, description="Whether DescribeTaskLogs knows logs of an instance whose machine is gone."
    )
    missing_logs: Literal["empty", "omit", "error"] = Field(
        "empty",
        description="DescribeTaskLogs of an instance without logs (not RUNNING yet, or logs_after_end): empty texts; "
        "left out; or ResourceNotFound.TaskInstance.",
    )
    log_names: Literal["same", "per_attempt"] = Field(
        "same",
        description="Names of a retried instance's logs in COS: the same, or with the attempt's number appended.",
    )
    log_upload_lag_seconds: NonNegativeFloat = Field(
        0.0, description="How long after an instance's end its logs appear in COS. 0: before the end is visible."
    )

    # -- events ------------------------------------------------------------------------------------------------
    events: Literal["on", "off"] = Field("on", description="Whether events are published at all.")
    event_base64: bool = Field(False, description="Whether event bodies are Base64 encoded.")
    event_body: Literal["wrapped", "bare", "snake", "minimal", "extended"] = Field(
        "wrapped",
        description="Form of an event body, of which Tencent shows one sample: as there; the event without its list "
        "`Events`; members in snake_case; name and ids only; with members nobody knows and without times.",
    )
    event_vars_shape: Literal["objects", "lower", "mapping"] = Field(
        "objects", description="EventVars in an event: objects of Name and Value, of name and value, or one mapping."
    )

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
    cmq_timestamp_window_seconds: NonNegativeFloat = Field(
        300.0, description="The same as timestamp_window_seconds, of message requests."
    )
    cmq_sign_at_values: Literal["either", "signed", "left_out"] = Field(
        "either",
        description="Values that begin with @ in a POST signature of message requests: signed, left out of it as the "
        "vendor's SDK does, or either.",
    )
    cmq_max_poll_seconds: PositiveInt = Field(30, description="Longest pollingWaitSeconds accepted by a receive call.")

    # -- API ---------------------------------------------------------------------------------------------------
    timestamp_window_seconds: NonNegativeFloat = Field(
        300.0,
        description="Largest accepted difference between an API 3.0 request's timestamp and the emulator's clock.",
    )
    clock_skew_seconds: float = Field(
        0.0,
        ge=-1e9,
        le=1e9,
        description="How far the service's clock is ahead of this machine's (negative: behind).",
    )
    rate_limits: Literal["off", "cn", "intl"] = Field(
        "off", description="Limits of requests per second and action: none, or those of either of Tencent's sites."
    )
    rate_limit_unlisted: NonNegativeInt = Field(
        0,
        description="rate_limits intl: requests per second of the four actions that its table lacks. 0: as in China.",
    )
    max_request_bytes: PositiveInt = Field(10 * 1024 * 1024, description="Largest API 3.0 request body.")
    call_log_size: NonNegativeInt = Field(2000, description="Calls remembered for GET /_emulator/calls.")

    @classmethod
    def unknown(cls, name: str) -> str:
        """What to say of a setting that there is not."""
        close = difflib.get_close_matches(name, cls.model_fields, n=1)
        meant = f", did you mean {close[0]!r}?" if close else ";"
        return f"there is no such setting{meant} 'tcbatch-emulator settings' lists them"

    def updated(self, changes: dict[str, Any]) -> Settings:
        """A validated copy with some values replaced.

        :raises SettingsError: for an unknown name or an impossible value.
        """
        return Settings.model_validate({**self.model_dump(exclude_unset=True), **changes})
