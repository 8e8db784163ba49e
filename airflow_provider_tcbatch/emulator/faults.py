"""Trouble on demand: what can go wrong between a client and the service, and how often it shall."""

from __future__ import annotations

import difflib
import itertools
import random
from collections.abc import Collection, Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator
from typing_extensions import Self

RequestKind = Literal[
    "throttle",
    "error",
    "error_after",
    "http_error",
    "drop",
    "lose_answer",
    "slow",
    "slow_answer",
    "content_type",
    "clock_skew",
]
EventKind = Literal["lose_event", "duplicate_event", "delay_event", "reorder_event", "garble_event"]
QueueKind = Literal["dead_queue"]
MachineKind = Literal["lose_machine", "reclaim_machine", "fail_creation"]

REQUEST_KINDS: frozenset[str] = frozenset(get_args(RequestKind))
EVENT_KINDS: frozenset[str] = frozenset(get_args(EventKind))
QUEUE_KINDS: frozenset[str] = frozenset(get_args(QueueKind))

KINDS = tuple(kind for kinds in (RequestKind, EventKind, QueueKind, MachineKind) for kind in get_args(kinds))

#: What a fault says of itself; somebody who adds one has no say in it.
_OWN_MEMBERS = frozenset({"id", "hits", "passed"})


class FaultError(ValueError):
    """There is no such fault.

    :param problem: what is wrong, in one sentence.
    :param members: the members that it is about.
    """

    def __init__(self, problem: str, *members: str) -> None:
        super().__init__(problem)
        self.members = members


def _meant(written: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(written, known, n=1)
    return f", did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


class Fault(BaseModel):
    """One kind of trouble, and whom it meets.

    Faults are looked through in the order in which they were added; the first that matches strikes, alone.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    id: str = ""
    kind: RequestKind | EventKind | QueueKind | MachineKind = Field(description="What happens.")
    service: Literal["batch", "tdmq", "cmq", "cos", "*"] = Field("*", description="Whose calls it meets.")
    action: str = Field(
        "*",
        max_length=64,
        description="The call it meets: an action, for COS an HTTP method; for events a name such as JOB_FAILED.",
    )
    target: str = Field(
        "*",
        max_length=1024,
        description="Name of the queue (CMQ, dead_queue), topic (events), bucket (COS). Machines: id or name "
        "of a job, its task, id of an environment, node or CVM. fail_creation: instance type or zone.",
    )
    probability: float = Field(1.0, gt=0, le=1, description="How likely it strikes when it could.")
    skip: NonNegativeInt = Field(0, description="How many matching calls it lets pass first.")
    count: PositiveInt | None = Field(None, description="How often it strikes before it is used up; null: always.")
    seconds: float = Field(
        5.0,
        description="How long slow, slow_answer, delay_event, reorder_event take; how far clock_skew is off; how long "
        "a machine runs before it is lost.",
    )
    code: str | None = Field(
        None,
        max_length=100,
        description="Error code of throttle, error, error_after, dead_queue, fail_creation; reason of a lost machine.",
    )
    status: int = Field(500, ge=400, le=599, description="HTTP status of http_error.")
    content_type: str = Field(
        "application/json; charset=utf-8", max_length=200, pattern=r"^[\x20-\x7e]+$", description="Of content_type."
    )
    body: str | None = Field(None, description="What content_type, http_error and garble_event put into the body.")
    copies: PositiveInt = Field(1, le=100, description="How many more than one message duplicate_event sends.")
    hits: NonNegativeInt = Field(0, description="How often it has struck so far.")
    passed: NonNegativeInt = Field(0, description="How many matching calls it has let pass.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.seconds < 0 and self.kind != "clock_skew":
            raise ValueError("only clock_skew takes negative seconds")
        return self

    @property
    def used_up(self) -> bool:
        """Whether it has struck as often as it should."""
        return self.count is not None and self.hits >= self.count

    def meets(self, service: str, action: str, targets: Collection[str]) -> bool:
        """Whether a call, which may be about any of ``targets``, is one of those that it is for."""
        return (
            self.service in ("*", service)
            and self.action in ("*", action)
            and (self.target == "*" or self.target.lower() in (target.lower() for target in targets))
        )


class Faults:
    """The faults of one emulator, in the order in which they were added.

    :param dice: answers numbers from 0 to 1; a test brings its own.
    """

    def __init__(self, dice: random.Random | None = None) -> None:
        self._faults: dict[str, Fault] = {}
        self._dice = dice or random.Random()
        self._numbers = itertools.count(1)

    def add(self, kind: str, /, **members: Any) -> Fault:
        """Add a fault; :class:`Fault` says what there is.

        :raises FaultError: for an unknown kind or member, an impossible value, or a member that only the emulator
            itself writes.
        """
        own = sorted(_OWN_MEMBERS & members.keys())
        if own:
            raise FaultError(f"{', '.join(own)}: only the emulator sets that")
        if kind not in KINDS:
            raise FaultError(f"there is no fault {kind!r}{_meant(kind, KINDS)}", "kind")
        free = [name for name in Fault.model_fields if name not in _OWN_MEMBERS and name != "kind"]
        for name in members:
            if name not in free:
                raise FaultError(f"a fault has no {name!r}{_meant(name, free)}", name)
        try:
            fault = Fault.model_validate({**members, "kind": kind, "id": f"fault-{next(self._numbers)}"})
        except ValidationError as error:
            raise FaultError(
                "; ".join(f"{'.'.join(map(str, item['loc'])) or kind}: {item['msg']}" for item in error.errors()),
                *(".".join(map(str, item["loc"])) for item in error.errors()),
            ) from None
        self._faults[fault.id] = fault
        return fault

    def remove(self, fault_id: str) -> bool:
        """Take a fault away; False when there is none of this id."""
        return self._faults.pop(fault_id, None) is not None

    @property
    def any(self) -> bool:
        """Whether there are faults at all."""
        return bool(self._faults)

    def clear(self) -> None:
        """Take all faults away."""
        self._faults.clear()

    def all(self) -> list[Fault]:
        """All faults, those that are used up too."""
        return [fault.model_copy() for fault in self._faults.values()]

    def request(self, service: str, action: str, target: str = "") -> Fault | None:
        """The fault that strikes this call, if any does."""
        return self._strike(service, action, (target,), REQUEST_KINDS)

    def event(self, event_name: str, topic: str) -> Fault | None:
        """The fault that strikes this event, if any does."""
        return self._strike("batch", event_name, (topic,), EVENT_KINDS)

    def queue(self, name: str) -> Fault | None:
        """The fault that makes this queue dead, if any does."""
        return self._strike("cmq", "*", (name,), QUEUE_KINDS)

    def machine(self, kind: str, names: Collection[str]) -> Fault | None:
        """The fault of this kind that strikes a machine, if any does.

        :param names: all that its ``target`` may be.
        """
        return self._strike("batch", "*", names, (kind,))

    def _strike(self, service: str, action: str, targets: Collection[str], kinds: Collection[str]) -> Fault | None:
        for fault in self._faults.values():
            if fault.kind not in kinds or fault.used_up or not fault.meets(service, action, targets):
                continue
            if fault.passed < fault.skip:
                fault.passed += 1
            elif self._dice.random() < fault.probability:
                fault.hits += 1
                return fault
        return None
