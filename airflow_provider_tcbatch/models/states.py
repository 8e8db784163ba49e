"""States, spelled as the API spells them: ``str`` enums that compare equal to their wire values."""

from __future__ import annotations

from enum import Enum

__all__ = [
    "FAILED_STATES",
    "ActivityState",
    "ComputeNodeState",
    "JobState",
    "NextAction",
    "State",
    "TaskInstanceState",
    "TaskState",
    "WireEnum",
]


class WireEnum(str, Enum):
    """A string enum that prints as its wire value on every Python version."""

    __str__ = str.__str__

    def __format__(self, format_spec: str) -> str:
        return str.__format__(self.value, format_spec)


class State(WireEnum):
    """State of a job, a task or a task instance: all three share one vocabulary."""

    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEED = "SUCCEED"
    FAILED = "FAILED"
    FAILED_INTERRUPTED = "FAILED_INTERRUPTED"

    @classmethod
    def _missing_(cls, value: object) -> State | None:
        # The 2017 API spelled it SUCCEEDED, and some samples still do.
        return cls.SUCCEED if value == "SUCCEEDED" else None

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more happens by itself.

        FAILED_INTERRUPTED is terminal for a waiter, although its machines are kept (and billed) until
        the job is terminated.
        """
        return self in (State.SUCCEED, State.FAILED, State.FAILED_INTERRUPTED)

    @property
    def is_success(self) -> bool:
        """Whether it ended well."""
        return self is State.SUCCEED

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has started yet."""
        return self in (State.SUBMITTED, State.PENDING, State.RUNNABLE)


#: States of what has failed, as they are written.
FAILED_STATES = (State.FAILED.value, State.FAILED_INTERRUPTED.value)

JobState = State
TaskState = State
TaskInstanceState = State


class ComputeNodeState(WireEnum):
    """State of a node of a compute environment."""

    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    CREATING = "CREATING"
    CREATED = "CREATED"
    CREATION_FAILED = "CREATION_FAILED"
    RUNNING = "RUNNING"
    ABNORMAL = "ABNORMAL"
    DELETING = "DELETING"


class ActivityState(WireEnum):
    """State of an activity: the making or the removal of a node."""

    SUBMITTED = "SUBMITTED"
    PROCESSING = "PROCESSING"
    SUCCEED = "SUCCEED"
    FAILED = "FAILED"


class NextAction(WireEnum):
    """What the service is about to do with a job or an environment."""

    NONE = ""
    TERMINATING = "TERMINATING"
    DELETING = "DELETING"
