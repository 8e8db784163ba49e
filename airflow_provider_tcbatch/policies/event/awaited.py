"""What a wait for an event waits for, and what of it a state can tell: pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.models.states import ComputeNodeState, State
from airflow_provider_tcbatch.policies.arguments import listed, several_of, text_of
from airflow_provider_tcbatch.policies.event.filter import EventFilter
from airflow_provider_tcbatch.policies.job.targets import Targets

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.events import BatchEvent
    from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow

__all__ = ["FAMILIES", "AwaitedEvents"]

_JOB = ("job_id", "job_name")
_ENV = ("env_id", "env_name")

#: What events are about, and which arguments can choose among them.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "JOB": _JOB,
    "TASK": (*_JOB, "task_name"),
    "TASK_INSTANCE": (*_JOB, "task_name", "task_instance_index"),
    "COMPUTE_ENV": _ENV,
    "COMPUTE_NODE": _ENV,
}

#: States in which nodes stay long enough to be seen; whoever is in the second has been in the first.
_LASTING_NODES = (ComputeNodeState.CREATED.value, ComputeNodeState.RUNNING.value)


@dataclass(frozen=True)
class AwaitedEvents:
    """Events, one of which is waited for.

    :param names: names of events, such as JOB_SUCCEED.
    :param job_id: the job.
    :param job_name: exactly the name of a job, instead.
    :param task_name: its task.
    :param indexes: instances of that task; none for all.
    :param env_id: the compute environment.
    :param env_name: exactly its name, instead.
    :param variables: EventVars that the event must carry, with these values.
    """

    names: tuple[str, ...]
    job_id: str | None = None
    job_name: str | None = None
    task_name: str | None = None
    indexes: tuple[int, ...] = ()
    env_id: str | None = None
    env_name: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(
        cls,
        *,
        event_names: object,
        job_id: object = None,
        job_name: object = None,
        task_name: object = None,
        task_instance_index: object = None,
        env_id: object = None,
        env_name: object = None,
        variables: object = None,
    ) -> AwaitedEvents:
        """Read what a user wrote, or what a template made of it.

        :raises ValueError: if that is no event, or none that can ever come, saying what to write instead.
        """
        names = tuple(listed(event_names))
        if not names:
            raise ValueError("event_names is empty; write one event or more")
        if variables is not None and not isinstance(variables, Mapping):
            raise ValueError(f"variables is {variables!r}; write texts by name")
        indexes = () if task_instance_index is None else several_of("task_instance_index", task_instance_index, int)
        if task_instance_index is not None and not indexes:
            raise ValueError("task_instance_index is empty; write an index or more, or leave it out")
        EventFilter.parse(names=names, variables=variables)
        texts = {
            "job_id": job_id,
            "job_name": job_name,
            "task_name": task_name,
            "env_id": env_id,
            "env_name": env_name,
        }
        awaited = cls(
            tuple(dict.fromkeys(name.strip() for name in names)),
            indexes=tuple(indexes),
            variables=dict(variables or {}),
            **{name: None if given is None else text_of(name, given) for name, given in texts.items()},
        )
        awaited._check()
        return awaited

    def to_json(self) -> dict[str, Any]:
        """The arguments of :meth:`parse` in plain JSON."""
        return {
            "event_names": list(self.names),
            "job_id": self.job_id,
            "job_name": self.job_name,
            "task_name": self.task_name,
            "task_instance_index": list(self.indexes) or None,
            "env_id": self.env_id,
            "env_name": self.env_name,
            "variables": dict(self.variables),
        }

    # -- what states tell ------------------------------------------------------------------------------

    @property
    def families(self) -> tuple[str, ...]:
        """What the events are about."""
        return tuple(family for family in FAMILIES if self.states(family))

    def states(self, family: str) -> tuple[str, ...]:
        """The states that events of a family announce."""
        found = (_split(name) for name in self.names)
        return tuple(state for about, state in found if about == family)

    def targets(self, family: str) -> Targets:
        """The states of jobs, tasks or instances, and those from which none of them can be come to any more."""
        wanted = self.states(family)
        final = (State.SUCCEED, State.FAILED, State.FAILED_INTERRUPTED)
        # A job that was interrupted is terminated sooner or later, and FAILED then.
        later = (State.FAILED_INTERRUPTED,) if State.FAILED in wanted else ()
        return Targets(
            wanted, tuple(state.value for state in final if state.value not in wanted and state not in later)
        )

    @property
    def looked_at(self) -> tuple[str, ...]:
        """Families of which the API shows something: their job, task or environment is named."""
        job, env = bool(self.job_id or self.job_name), bool(self.env_id or self.env_name)
        named = {"JOB": job, "TASK": job and self.task_name, "COMPUTE_ENV": env, "COMPUTE_NODE": env}
        return tuple(family for family in self.families if named[family.removesuffix("_INSTANCE")])

    @property
    def proven(self) -> bool:
        """Whether a state is enough. What variables an event carried can't be seen from it."""
        return not self.variables

    @property
    def heard_only(self) -> tuple[str, ...]:
        """The events that must be heard: no state tells of them, or not for long."""
        return tuple(name for name in self.names if not self._lasts(name))

    def _lasts(self, name: str) -> bool:
        family, state = _split(name)
        if not self.proven or family not in self.looked_at:
            return False
        return family != "COMPUTE_NODE" or state in _LASTING_NODES

    def implied(self, family: str, state: str) -> str | None:
        """The name of the wanted event that must have come where something is in a state; ``None`` if none must."""
        wanted = self.states(family)
        passed: Iterable[str] = (state,)
        if family == "COMPUTE_NODE" and state == ComputeNodeState.RUNNING:
            passed = (state, ComputeNodeState.CREATED.value)
        elif state == State.SUCCEED:
            passed = (state, State.RUNNING.value)
        return next((f"{family}_{one}" for one in passed if one in wanted), None)

    def worth_a_look(self, family: str, now: EnvNow | None) -> bool:
        """Whether a compute environment as it is counted may tell of an event, or that none can come any more.

        :param now: the environment; ``None`` if it does not exist.
        """
        if now is None:
            return True
        if family == "COMPUTE_ENV":
            return "CREATED" in self.states(family)
        return now.deleting or any(self.implied(family, state) for state in now.states)

    # -- what events tell ------------------------------------------------------------------------------

    def complete(self, event: BatchEvent) -> BatchEvent:
        """An event with what is waited for in the place of what it does not tell: the API says whether that is true."""
        if event.job_id is None or event.family not in ("TASK", "TASK_INSTANCE"):
            return event
        if event.task_name is None and self.task_name:
            event = replace(event, task_name=self.task_name)
        if event.family == "TASK_INSTANCE" and event.instance_index is None and len(self.indexes) == 1:
            event = replace(event, instance_index=self.indexes[0])
        return event

    def matches(self, event: BatchEvent) -> bool | None:
        """Whether an event is one of those; ``None`` if the event itself does not tell, and the API must be asked."""
        if self.indexes and event.instance_index not in self.indexes:
            return False
        return self._filter.matches(event)

    @cached_property
    def _filter(self) -> EventFilter:
        return EventFilter.parse(
            names=self.names,
            job_ids=self.job_id,
            job_names=self.job_name,
            task_names=self.task_name,
            env_ids=self.env_id,
            env_names=self.env_name,
            variables=self.variables,
        )

    def _check(self) -> None:
        if self.job_id is not None and self.job_name is not None:
            raise ValueError("give job_id or job_name, and not both")
        if self.env_id is not None and self.env_name is not None:
            raise ValueError("give env_id or env_name, and not both")
        members = ("job_id", "job_name", "task_name", "env_id", "env_name")
        given = [name for name in members if getattr(self, name) is not None]
        given += ["task_instance_index"] * bool(self.indexes)
        for name in self.names:
            family = _split(name)[0]
            if foreign := [member for member in given if member not in FAMILIES[family]]:
                more = ", or give variables that its job publishes it with" if family == "COMPUTE_NODE" else ""
                raise ValueError(
                    f"{name} can't be chosen by {' and '.join(foreign)}, only by {', '.join(FAMILIES[family])}; leave "
                    f"out one of them{more}"
                )
        if self.indexes and self.task_name is None:
            raise ValueError("task_instance_index needs task_name: all tasks count their instances from 0")

    def __str__(self) -> str:
        about = {
            "job": self.job_id or (self.job_name and repr(self.job_name)),
            "task": self.task_name and repr(self.task_name),
            "instance": ", ".join(map(str, self.indexes)),
            "compute environment": self.env_id or (self.env_name and repr(self.env_name)),
        }
        words = [f"{what} {which}" for what, which in about.items() if which]
        values = ", ".join(f"{name}={value}" for name, value in self.variables.items())
        of = f" of {', '.join(words)}" if words else ""
        return " or ".join(self.names) + of + (f" with {values}" if values else "")


def _split(name: str) -> tuple[str, str]:
    """What an event is about, and the state that it announces."""
    # Of two families that begin alike the longer one comes first.
    family = next(known for known in sorted(FAMILIES, key=len, reverse=True) if name.startswith(f"{known}_"))
    return family, name[len(family) + 1 :]
