"""Finding marked jobs and compute environments that nobody owns any more, and ending them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_tcbatch.exceptions import ApiError, InvalidRequest, NotFound, TCBatchError
from airflow_provider_tcbatch.hooks.batch import has_machines
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.policies.compute_env.nodes import env_now
from airflow_provider_tcbatch.policies.compute_env.sharing import SHARED, closed_name
from airflow_provider_tcbatch.policies.job.outcome import judge
from airflow_provider_tcbatch.policies.orphans import (
    GRACE_SECONDS,
    KEEP_TAG,
    KEEP_VARIABLE,
    Fate,
    Finding,
    Kind,
    Run,
    Thing,
    instant_of,
    judge_things,
    tag_mark,
    teardown_of,
)
from airflow_provider_tcbatch.policies.ownership.marks import OWNER_TAG, Owner, owner_of

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView
    from airflow_provider_tcbatch.models.views import JobView

__all__ = ["Airflow", "Ended", "OrphanSweep"]

log = logging.getLogger(__name__)

#: In the order in which a job goes through them: one that moves on between two requests is seen by the second.
_UNFINISHED = (*(state for state in State if not state.is_terminal), State.FAILED_INTERRUPTED, State.FAILED)

#: A FAILED job may have instances that still run. Looking is one request for each, so it is not done for old ones.
_FAILED_SECONDS = 2 * 86400.0

#: Seconds to wait for an environment on which something runs that was just ended.
_BUSY_SECONDS = 60.0

#: Seconds to go on with the deletion of an environment before Airflow is asked about its owner again.
_STEP_SECONDS = 10.0

#: What a JobName begins and ends with, and what an EnvDescription holds, where tags may not be used.
_NAME_MARK = re.compile(r"(af-[0-9a-f]{12}-)(?:.*-)?([0-9a-f]{8})")
_TEXT_MARK = re.compile(r"\[(af-[0-9a-f]{12}-)([0-9a-f]{8})\]")


class Airflow(Protocol):
    """What has to be known about Airflow; a worker and the command line ask it in different ways."""

    def run(self, dag_id: str, run_id: str) -> Run:
        """What has become of a run; never raises."""

    def shared(self, dag_ids: Collection[str], teardowns: Collection[str]) -> Run:
        """What has become of all runs of some DAGs, and whether any of these tear-downs has succeeded; never raises."""

    def owners(self, marks: Collection[str], deployment: str) -> Mapping[str, Owner]:
        """Task instances by one of their :func:`.marks_of`, as far as that can be found out."""


@dataclass(frozen=True)
class Ended:
    """What came of ending an orphan.

    :param finding: as it was judged last: if that is no orphan any more, it was left alone.
    :param done: whether it has ended, and for a job, has given its machines back.
    :param words: in a few words.
    """

    finding: Finding
    done: bool
    words: str

    @property
    def failed(self) -> bool:
        """Whether it was to be ended, and has not."""
        return not self.done and self.finding.fate is Fate.ORPHAN


class _Claimed(Exception):
    """What was an orphan when it was found is none any more."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.why)
        self.finding = finding


class OrphanSweep:
    """Looks for orphans in one account and region.

    Jobs are listed by state, not by tag: ended ones, which may be many, are never read, and jobs that carry their mark
    in their name are found by the same requests.

    :param hook: for the calls.
    :param airflow: tells about owners.
    :param deployment: whose things are looked for.
    :param grace: seconds of age under which everything is spared.
    :param clock: unix seconds.
    """

    def __init__(
        self,
        hook: TCBatchHook,
        airflow: Airflow,
        deployment: str,
        *,
        grace: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hook = hook
        self._airflow = airflow
        self._deployment = deployment
        self._grace = grace
        self._clock = clock
        self._things: list[Thing] = []
        # A deployment with other characters than a tag may hold stands in it as a digest.
        self._tagged = Owner(deployment, "", "", "").tag("").split("/")[0]

    def look(self) -> list[Finding]:
        """All that carries this deployment's mark and has not ended, with what is to become of it.

        :raises ApiError: if jobs or environments can't be listed.
        """
        things = [*self._jobs(), *self._envs()]
        findings = judge_things(
            things, self._runs(things), deployment=self._deployment, now=self._clock(), grace=self._grace
        )
        return [self._unless_kept(finding) for finding in findings]

    def _runs(self, things: Iterable[Thing]) -> dict[tuple[str, str], Run]:
        """What Airflow says about the runs of these things, by DAG and run."""
        teardowns: dict[tuple[str, str], set[str]] = {}
        for owner in (thing.owner for thing in things):
            if owner is not None:
                teardowns.setdefault((owner.dag_id, owner.run_id), set()).add(teardown_of(owner))
        runs = {}
        for (dag_id, run_id), tasks in sorted(teardowns.items()):
            if run_id == SHARED:
                # No DAG id holds a plus sign: it stands between those of the DAGs that share.
                runs[dag_id, run_id] = self._airflow.shared(dag_id.split("+"), sorted(tasks))
            else:
                runs[dag_id, run_id] = self._airflow.run(dag_id, run_id)
        return runs

    # -- jobs ----------------------------------------------------------------------------------------

    def _jobs(self) -> Iterator[Thing]:
        seen: dict[str, JobView] = {}
        for state in _UNFINISHED:
            seen |= {view.job_id: view for view in self._hook.describe_jobs(filters={"job-state": [state.value]})}
        for view in seen.values():
            if (mark := self._job_mark(view)) is not None and not self._is_over(view):
                owner, generation = mark
                yield Thing(
                    Kind.JOB,
                    view.job_id,
                    view.job_name or "",
                    _plain(view.job_state),
                    owner,
                    generation,
                    instant_of(view.create_time),
                    kept=_is_kept(view.tags),
                )

    def _is_over(self, view: JobView) -> bool:
        """Whether a FAILED job uses no machine any more: when it becomes FAILED is not documented."""
        if view.job_state != State.FAILED:
            return False
        ended_at = instant_of(view.end_time)
        if ended_at is not None and ended_at < self._clock() - _FAILED_SECONDS:
            return True
        try:
            return not has_machines(self._hook.describe_job(view.job_id))
        except NotFound:
            return True

    def _job_mark(self, view: JobView) -> tuple[Owner | None, str] | None:
        """Owner and generation of a job of this deployment; the owner is ``None`` if it can't be told."""
        value = _owner_tag(view.tags)
        if value is None:
            match = _NAME_MARK.fullmatch(view.job_name or "")
            if match is None:
                return None
            # Only its variables tell the names. If they do not fit the mark, it is another deployment's, or nobody's.
            owner = self._owner_by_variables(view.job_id, lambda owner: owner.prefix() == match[1])
            return None if owner is None else (owner, match[2])
        if (read := self._read(value)) is None:
            return None
        owner, generation = read
        if _is_plain(value):
            return owner, generation
        return self._owner_by_variables(view.job_id, lambda owner: owner.tag(generation) == value), generation

    def _owner_by_variables(self, job_id: str, fits: Callable[[Owner], bool]) -> Owner | None:
        """The owner that a job's environment variables name, if it fits the job's mark."""
        variables = self._variables(job_id)
        dag_id, run_id, task_id, index = (
            variables.get(f"AIRFLOW_CTX_{name}", "") for name in ("DAG_ID", "DAG_RUN_ID", "TASK_ID", "MAP_INDEX")
        )
        if not re.fullmatch(r"-?\d+", index):
            return None
        owner = Owner(self._deployment, dag_id, run_id, task_id, int(index))
        return owner if fits(owner) else None

    def _variables(self, job_id: str) -> dict[str, str]:
        try:
            info = self._hook.describe_job_submit_info(job_id)
        except NotFound:
            return {}
        # The variables of one task are enough: all of them get the same ones, unless the user set others.
        found: dict[str, str] = {}
        for task in info.tasks or ():
            for variable in getattr(task, "env_vars", None) or ():
                found.setdefault(str(variable.name), str(variable.value))
        return found

    # -- environments --------------------------------------------------------------------------------

    def _envs(self) -> list[Thing]:
        views = [view for view in self._hook.describe_compute_envs() if not view.next_action]
        plain: dict[str, tuple[Owner | None, str]] = {}
        digests: dict[str, tuple[str, str]] = {}
        untagged = []
        for view in views:
            value = _owner_tag(view.tags)
            if value is None:
                untagged.append(view.env_id)
            elif (read := self._read(value)) is None:
                continue
            elif _is_plain(value):
                plain[view.env_id] = read
            else:
                digests[view.env_id] = (tag_mark(value), read[1])
        digests |= self._described(untagged)
        owners = self._airflow.owners({mark for mark, _ in digests.values()}, self._deployment) if digests else {}
        marks = plain | {env_id: (owners.get(mark), generation) for env_id, (mark, generation) in digests.items()}
        return [self._env(view, *marks[view.env_id]) for view in views if view.env_id in marks]

    @staticmethod
    def _env(view: ComputeEnvView, owner: Owner | None, generation: str) -> Thing:
        now = env_now(view)
        return Thing(
            Kind.ENVIRONMENT,
            view.env_id,
            view.env_name or "",
            str(now),
            owner,
            generation,
            instant_of(view.create_time),
            kept=_is_kept(view.tags),
            empty=not (now.desired or now.present),
        )

    def _described(self, env_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Marks and generations of environments that carry them in their description."""
        found = {}
        for info in self._hook.describe_compute_env_create_infos(env_ids):
            if match := _TEXT_MARK.search(info.env_description or ""):
                found[info.env_id] = (match[1], match[2])
        return found

    # -- both ----------------------------------------------------------------------------------------

    def _read(self, value: str) -> tuple[Owner, str] | None:
        """Owner and generation of a tag of this deployment."""
        read = owner_of(value)
        if read is None or read[0].deployment not in (self._deployment, self._tagged):
            return None
        return replace(read[0], deployment=self._deployment), read[1]

    def _unless_kept(self, finding: Finding) -> Finding:
        """Before something is called an orphan: does it say elsewhere than in a tag that it is to be kept?"""
        thing = finding.thing
        if finding.fate is not Fate.ORPHAN:
            return finding
        try:
            if thing.kind is Kind.JOB:
                kept = KEEP_VARIABLE in self._variables(thing.thing_id)
            else:
                info = self._hook.describe_compute_env_create_info(thing.thing_id)
                kept = KEEP_TAG in (info.env_description or "")
        except TCBatchError as error:
            return replace(finding, fate=Fate.UNSURE, why=f"whether it is to be kept can't be read: {error}")
        return replace(finding, fate=Fate.SPARED, why="it says that it is to be kept") if kept else finding

    # -- ending --------------------------------------------------------------------------------------

    def end(self, findings: Sequence[Finding], *, timeout: float) -> list[Ended]:
        """End orphans: terminate jobs, then scale environments to zero and delete them. Jobs are not deleted.

        What can't be ended is told, and does not spare the rest. That takes minutes, in which somebody may clear a run:
        so Airflow is asked about each owner again right before his thing is ended.

        :param findings: all that :meth:`look` returned; what is no orphan is left alone.
        :param timeout: seconds for all of them together.
        """
        until = time.monotonic() + timeout
        self._things = [finding.thing for finding in findings]
        orphans = [finding for finding in findings if finding.fate is Fate.ORPHAN]
        jobs = [finding for finding in orphans if finding.thing.kind is Kind.JOB]
        asked = set()
        for finding in jobs:
            # All are asked for first: then their ends, which take the service a while, are waited for together.
            try:
                self._insist(finding)
                self._hook.terminate_job(finding.thing.thing_id)
                asked.add(finding.thing.thing_id)
            except _Claimed as claimed:
                log.info("Job %s is left alone: %s", finding.thing.thing_id, claimed)
            except ApiError as error:
                log.info("Job %s can't be terminated yet: %s", finding.thing.thing_id, error)

        def end_job(finding: Finding, patience: float) -> tuple[bool, str]:
            if finding.thing.thing_id not in asked:
                self._insist(finding)
            return self._end_job(finding.thing.thing_id, patience)

        ended = [self._tried(finding, end_job, until) for finding in jobs]
        envs = [finding for finding in orphans if finding.thing.kind is Kind.ENVIRONMENT]
        return ended + [self._tried(finding, self._end_env, until) for finding in envs]

    def _insist(self, finding: Finding) -> None:
        """Ask Airflow again.

        :raises _Claimed: unless it still is an orphan.
        """
        thing = finding.thing
        runs = self._runs([thing])
        findings = judge_things(self._things, runs, deployment=self._deployment, now=self._clock(), grace=self._grace)
        now = next(each for each in findings if each.thing.thing_id == thing.thing_id)
        if now.fate is not Fate.ORPHAN:
            raise _Claimed(now)

    @staticmethod
    def _tried(finding: Finding, end: Callable[[Finding, float], tuple[bool, str]], until: float) -> Ended:
        try:
            done, words = end(finding, max(1.0, until - time.monotonic()))
        except _Claimed as claimed:
            finding = claimed.finding
            done, words = False, "it was an orphan when it was found, and is left alone now"
        except TCBatchError as error:
            done, words = False, f"{type(error).__name__}: {error}"
        ended = Ended(finding, done, words)
        log.log(logging.WARNING if ended.failed else logging.INFO, "%s: %s", finding.thing.thing_id, words)
        return ended

    def _end_job(self, job_id: str, patience: float) -> tuple[bool, str]:
        view = self._hook.end_job(job_id, patience=patience)
        if view is None:
            return True, "it does not exist any more"
        if judge(view.job_state).is_final and not has_machines(view):
            return True, f"it has ended and is {_plain(view.job_state)}"
        return False, f"its end was asked for, but after {patience:.0f} s it is {_plain(view.job_state)}"

    def _end_env(self, finding: Finding, patience: float) -> tuple[bool, str]:
        env_id = finding.thing.thing_id
        begun = time.monotonic()
        busy_until = begun + min(patience, _BUSY_SECONDS)
        try:
            while any(node.busy for node in env_now(self._hook.describe_compute_env(env_id)).nodes or ()):
                if time.monotonic() >= busy_until:
                    return False, "something that is no orphan runs on it"
                time.sleep(1.0)
            if finding.thing.owner is not None and finding.thing.owner.run_id == SHARED:
                self._insist(finding)
                self._close(finding.thing)
        except NotFound:
            return True, "it does not exist any more"
        while True:
            # Its nodes take minutes to go, and somebody may clear its run at any time.
            self._insist(finding)
            rest = max(0.0, begun + patience - time.monotonic())
            left = self._hook.remove_compute_env(env_id, patience=min(rest, _STEP_SECONDS))
            if left is None:
                return True, "it is deleted"
            if rest <= _STEP_SECONDS:
                return False, f"after {patience:.0f} s it still exists: {left}"

    def _close(self, thing: Thing) -> None:
        """Rename an environment, so that no set-up finds it: then Airflow is asked for the last time."""
        if thing.name == closed_name(thing.name):
            return
        try:
            self._hook.modify_compute_env(thing.thing_id, env_name=closed_name(thing.name))
        except InvalidRequest as error:
            log.info("Compute environment %s can't be renamed: %s", thing.thing_id, error)


def _owner_tag(tags: Sequence[Any] | None) -> str | None:
    return next((str(tag.value) for tag in tags or () if tag.key == OWNER_TAG), None)


def _is_kept(tags: Sequence[Any] | None) -> bool:
    return any(tag.key == KEEP_TAG for tag in tags or ())


def _is_plain(value: str) -> bool:
    """Whether a tag holds the names of its owner, and not digests of them."""
    return not any(part.startswith("sha256:") for part in value.split("/")[1:4])


def _plain(state: Any) -> str:
    return str(getattr(state, "value", state))
