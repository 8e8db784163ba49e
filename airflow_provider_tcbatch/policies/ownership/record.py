"""What a task remembers of what it makes, from one try to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_tcbatch.exceptions import ApiError

__all__ = ["VERSION", "Ending", "Record", "Repair", "ThisTry"]


#: Version of the record's form.
VERSION = 1


@dataclass(frozen=True)
class ThisTry:
    """The try that asks.

    :param try_number: its number.
    :param ti_id: id of its task instance.
    :param max_tries: Airflow's ``ti.max_tries``: a user's clear rewrites it, a retry does not.
    :param retries: the operator's ``retries``.
    """

    try_number: int
    ti_id: str
    max_tries: int
    retries: int


@dataclass(frozen=True)
class Ending:
    """Why, and when (unix seconds), the job's end was asked for."""

    reason: str
    requested_at: float


@dataclass(frozen=True)
class Repair:
    """A repair of a job.

    :param requested_at: unix seconds when it was asked for.
    :param end_time_before: the job's EndTime before it.
    :param ti_id: id of the task instance of the try that asked for it.
    :param accepted: whether the service has said that it has taken it.
    """

    requested_at: float
    end_time_before: str | None
    ti_id: str = ""
    accepted: bool = False


@dataclass(frozen=True)
class Record:
    """What is known of a task's job, kept across tries.

    :param owner: the try that wrote it last.
    :param token: ClientToken that is, or was, sent; empty where nothing was, or where the service refused for certain.
    :param token_sent_at: unix seconds of the sending that may have made the job: the first one whose answer was lost,
        or else the last one.
    :param context: values that went into the job's body and must be the same when it is sent again.
    :param spec_digest: digest of the body.
    :param job_name: JobName in the body: what the job is looked for by.
    :param job_id: set as soon as it is known.
    :param submitted_at: unix seconds when the job was accepted.
    :param ending: set before the job's end is asked for.
    :param repairs: repairs so far.
    :param done: whether the task is through with the job.
    """

    owner: ThisTry
    token: str
    token_sent_at: float
    context: Mapping[str, Any] = field(default_factory=dict)
    spec_digest: str = ""
    job_name: str = ""
    job_id: str | None = None
    submitted_at: float | None = None
    ending: Ending | None = None
    repairs: tuple[Repair, ...] = ()
    done: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for the store."""
        return {"version": VERSION, **asdict(self), "repairs": [asdict(repair) for repair in self.repairs]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read what :meth:`to_json` made.

        :raises ValueError: if it was made by a newer version, or is no record.
        """
        if data.get("version") != VERSION:
            raise ValueError(f"a record of version {data.get('version')!r} can't be read by version {VERSION}")
        members = {key: value for key, value in data.items() if key != "version"}
        try:
            return cls(
                **{
                    **members,
                    "owner": ThisTry(**members["owner"]),
                    "ending": Ending(**members["ending"]) if members.get("ending") else None,
                    "repairs": tuple(Repair(**repair) for repair in members.get("repairs") or ()),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from None

    def after(self, error: ApiError, sent_at: float) -> Record:
        """The same record once its request has failed: its token is as old as what may have been made under it.

        :param error: how it failed.
        :param sent_at: unix seconds when it was sent last.
        """
        if error.maybe_done:
            # What was sent after an answer was lost has been refused, maybe for an hour.
            return self if error.lost_at is None else replace(self, token_sent_at=error.lost_at)
        return replace(self, token_sent_at=sent_at)

    def repair_by(self, this: ThisTry) -> Repair | None:
        """The last repair, if this very try has asked for it."""
        return self.repairs[-1] if self.repairs and self.repairs[-1].ti_id == this.ti_id else None

    def claimed_by(self, owner: ThisTry) -> Record:
        """The same record with another owner, who keeps its generation."""
        return replace(self, owner=replace(owner, max_tries=self.owner.max_tries))
