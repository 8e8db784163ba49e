"""Which events somebody wants to hear of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.models.notification import EventName

if TYPE_CHECKING:
    from typing_extensions import Self

    from airflow_provider_tcbatch.models.events import BatchEvent

__all__ = ["EventFilter"]


@dataclass(frozen=True)
class EventFilter:
    """What an event must be: of each member that is not empty, one of its values.

    :param names: names of events, such as JOB_SUCCEED.
    :param job_ids: ids of jobs.
    :param job_names: exact names of jobs.
    :param task_names: names of tasks.
    :param env_ids: ids of compute environments.
    :param env_names: exact names of compute environments.
    :param variables: EventVars that it must carry, with these values: all of them.
    """

    names: frozenset[str] = frozenset()
    job_ids: frozenset[str] = frozenset()
    job_names: frozenset[str] = frozenset()
    task_names: frozenset[str] = frozenset()
    env_ids: frozenset[str] = frozenset()
    env_names: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(
        cls,
        *,
        names: str | Collection[str] | None = None,
        job_ids: str | Collection[str] | None = None,
        job_names: str | Collection[str] | None = None,
        task_names: str | Collection[str] | None = None,
        env_ids: str | Collection[str] | None = None,
        env_names: str | Collection[str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Self:
        """Make a filter from what a user writes: one value, or several.

        :raises ValueError: if a name is none of the documented events, or something is no text.
        """
        for key, value in (variables or {}).items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise ValueError(f"variables holds {key!r}: {value!r}; EventVars are texts")
        wanted = _texts("names", names)
        known = [name.value for name in EventName]
        if unknown := sorted(wanted - set(known)):
            raise ValueError(f"{', '.join(unknown)} is no event of Batch; write some of {', '.join(known)}")
        return cls(
            names=wanted,
            job_ids=_texts("job_ids", job_ids),
            job_names=_texts("job_names", job_names),
            task_names=_texts("task_names", task_names),
            env_ids=_texts("env_ids", env_ids),
            env_names=_texts("env_names", env_names),
            variables=dict(variables or {}),
        )

    def to_json(self) -> dict[str, Any]:
        """What :meth:`parse` makes the same filter from, in plain JSON; what is not set is left out."""
        members = ("names", "job_ids", "job_names", "task_names", "env_ids", "env_names")
        lists = {member: sorted(getattr(self, member)) for member in members if getattr(self, member)}
        return {**lists, "variables": dict(self.variables)} if self.variables else lists

    def matches(self, event: BatchEvent) -> bool | None:
        """Whether an event is one of those; ``None`` if the event itself does not tell.

        What bodies hold besides the event's name is documented for one event of nineteen, so the name of a job or of an
        environment may be missing where its id is there: the API knows it.
        """
        verdicts = (
            _one_of(self.names, event.name or None, False),
            _one_of(self.job_ids, event.job_id, False),
            _one_of(self.task_names, event.task_name, False),
            _one_of(self.env_ids, event.env_id, False),
            _one_of(self.job_names, event.job_name, None if event.job_id else False),
            _one_of(self.env_names, event.env_name, None if event.env_id else False),
            all(event.variables.get(name) == value for name, value in self.variables.items()),
        )
        if False in verdicts:
            return False
        return None if None in verdicts else True


def _one_of(wanted: frozenset[str], value: str | None, missing: bool | None) -> bool | None:
    if not wanted:
        return True
    return missing if value is None else value in wanted


def _texts(member: str, given: str | Collection[str] | None) -> frozenset[str]:
    values = () if given is None else (given,) if isinstance(given, str) else given
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{member} holds {value!r}; write one text, or a list of them")
    return frozenset(str(value).strip() for value in values)
