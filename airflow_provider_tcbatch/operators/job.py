"""Operators for jobs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from airflow.sdk import BaseOperator
from airflow.sdk.log import mask_secret

from airflow_provider_tcbatch.exceptions import ApiError, InvalidRequest, JobFailed, JobTimeout, NotFound, TCBatchError
from airflow_provider_tcbatch.links import TCBatchJobLink
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.models.wire import is_jinja, put_secrets_back, to_wire_form, with_placeholders
from airflow_provider_tcbatch.policies.outcome import Verdict, judge
from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context
    from pydantic import SecretStr

    from airflow_provider_tcbatch.client.logs import InstanceOutput
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult

__all__ = ["TCBatchSubmitJobOperator"]

#: How a ``job`` that is the path of a template file ends.
FILE_ENDINGS = (".yaml", ".yml", ".json")

#: Seconds that on_kill may take: Airflow kills the process 5 s after it asked it to end.
_KILL_SECONDS = 4.0


#: How often a wait goes on in the triggerer after an error there.
_TRIGGER_ERRORS = 3


def _default_deferrable() -> bool:
    from airflow.configuration import conf

    return conf.getboolean("operators", "default_deferrable", fallback=False)


class TCBatchSubmitJobOperator(BaseOperator):
    """Submit a Batch job and wait for its end.

    The job is checked when the DAG is parsed, as far as it can be seen there, and again after rendering. A failed job
    fails the task; the error names the instances that failed, their exit codes and the end of their stderr.

    XComs: ``job_id`` as soon as the job exists (also the return value), ``tcbatch_timeline`` at the end: unix
    seconds of ``submitted_at``, ``event_received_at`` (``None`` without an event), ``confirmed_at`` (the API told the
    final state) and ``resumed_at`` (this task went on).

    :param job: the job: a :class:`~airflow_provider_tcbatch.models.job.Job`, a dictionary in either spelling
        (``TaskName`` or ``task_name``), JSON or YAML text, or the path of a ``.yaml``, ``.yml`` or ``.json`` file
        that is looked for where the DAG looks for templates. Jinja may stand anywhere inside. (templated)
    :param zone: availability zone of the machines; default is the connection's. (templated)
    :param placement: a whole ``Placement``, instead of ``zone``. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the job is submitted, whatever ``deferrable`` says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks at the job while no events flow.
    :param timeout: seconds from submission after which the job is terminated and the task fails; ``None`` for ever.
        ``execution_timeout`` ends a deferred wait likewise.
    :param cancel_on_kill: terminate the job when the task is killed on a worker, or marked as failed, succeeded or
        skipped while it is deferred (the latter on Airflow 3.3 and later).
    :param logs: whose output to show in the task log: ``failed`` instances, ``all`` (the first ``log_instances``), or
        ``none``.
    :param log_instances: most instances whose output is shown.
    :raises InvalidRequest: if the job is wrong.
    :raises JobFailed: if the job ended as FAILED or FAILED_INTERRUPTED.
    :raises JobTimeout: if it did not end within ``timeout``.
    """

    template_fields: Sequence[str] = ("job", "zone", "placement", "tencentcloud_conn_id", "region")
    # Not template_ext: Airflow would take *every* string inside the job that ends in ".yaml" for a file.
    template_fields_renderers = {"job": "json", "placement": "json"}  # noqa: RUF012 - Airflow's own form
    operator_extra_links = (TCBatchJobLink(),)
    ui_color = "#e5f0ff"

    def __init__(
        self,
        *,
        job: Job | Mapping[str, Any] | str,
        zone: str | None = None,
        placement: Mapping[str, Any] | None = None,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = 30.0,
        timeout: float | timedelta | None = None,
        cancel_on_kill: bool = True,
        logs: str = "failed",
        log_instances: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if logs not in ("failed", "all", "none"):
            raise InvalidRequest(f"Task {self.task_id!r}: logs is {logs!r}; write failed, all or none")
        self.job = job
        self.zone = zone
        self.placement = placement
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.wait_for_completion = wait_for_completion
        self.deferrable = _default_deferrable() if deferrable is None else deferrable
        self.poll_interval = _seconds("poll_interval", poll_interval, self.task_id)
        self.timeout = None if timeout is None else _seconds("timeout", timeout, self.task_id)
        self.cancel_on_kill = cancel_on_kill
        self.logs = logs
        self.log_instances = log_instances
        self._job_id: str | None = None
        self._secrets: dict[Any, SecretStr] = {}
        # Airflow knows by its identity whether a value came from another task and must not be rendered.
        self._given = job
        self._check_early()

    # -- before a run --------------------------------------------------------------------------------

    def _check_early(self) -> None:
        """Bring the job into wire JSON and check what can be seen before rendering.

        Wire JSON, because Airflow would store a model as ``str(model)`` and not render inside it. Literal secrets are
        taken out of the template field: it is stored with the DAG and shown in the UI.
        """
        job = self.job
        if isinstance(job, str) and not is_jinja(job) and not _is_path(job):
            job = _read(job, self.task_id)
        if isinstance(job, (Job, Mapping)):
            form = to_wire_form(Job, job)
            self.job, self._secrets = form.data, form.secrets
            Job.parse(with_placeholders(Job, form.data, _known_later), at="Job")

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render as usual, after putting the text of a template file in the place of its path.

        What another task returned is data and is left as it is, as Airflow does in :meth:`expand`.
        """
        if content is self.job:
            if seen_oids is not None and id(self._given) in seen_oids:
                return content
            if isinstance(content, str) and _is_path(content):
                content = _source(jinja_env or self.get_template_env(), content, self.task_id)
        return super().render_template(content, context, jinja_env, seen_oids)

    def _final_job(self) -> Job:
        """The job as it is sent: rendered, with its secrets, checked."""
        self._mask_secrets()
        job = _read(self.job, self.task_id) if isinstance(self.job, str) else self.job
        return Job.parse(put_secrets_back(to_wire_form(Job, job).data, self._secrets), at="Job")

    def _mask_secrets(self) -> None:
        """Keep literal secrets of the job out of the log: its programs may print them."""
        for secret in self._secrets.values():
            mask_secret(secret.get_secret_value())

    @cached_property
    def hook(self) -> TCBatchHook:
        """Hook for the operator's connection and region."""
        from airflow_provider_tcbatch.hooks.batch import TCBatchHook

        return TCBatchHook(self.tencentcloud_conn_id, self.region)

    # -- a run ---------------------------------------------------------------------------------------

    def execute(self, context: Context) -> str:
        """Submit the job; wait, or leave the waiting to the triggerer."""
        ti = context["ti"]
        job = self._final_job()
        self.hook.settings.job_url("")  # a wrong template must be found before there is a job
        submitted_at = time.time()
        job_id = self._job_id = self.hook.submit_job(
            job,
            zone=self.zone,
            placement=self.placement,
            # One token per try: whatever happens to the answer, this try has one job.
            client_token=str(ti.id),
        )
        ti.xcom_push(key="job_id", value=job_id)
        ti.xcom_push(key=TCBatchJobLink.key, value=self.hook.settings.job_url(job_id))
        self.log.info("Submitted Batch job %s", job_id)
        if not self.wait_for_completion:
            return job_id
        if self.deferrable:
            # A job may be over before a trigger could start.
            view = self._look_early(job_id)
            if view is not None and judge(view.job_state).is_final:
                return self._finish(context, view, {"submitted_at": submitted_at, "confirmed_at": time.time()})
            self._defer(context, job_id, submitted_at)
        return self._wait(context, job_id, submitted_at)

    def _look_early(self, job_id: str) -> DescribeJobResult | None:
        """Look once; ``None`` where the look fails in a way that waiting may mend."""
        try:
            return self.hook.describe_job(job_id)
        except NotFound as error:
            # Just after its submission a job may be unknown for a moment; the trigger knows how long to believe that.
            self.log.info("Job %s can't be seen yet: %s", job_id, error)
        except ApiError as error:
            if not error.retryable:
                raise
            self.log.warning("Looking at job %s failed, waiting for it all the same: %s", job_id, error)
        return None

    def _defer(self, context: Context, job_id: str, submitted_at: float | None, errors: int = 0) -> NoReturn:
        self.defer(
            trigger=TCBatchJobTrigger(
                job_id=job_id,
                tencentcloud_conn_id=self.tencentcloud_conn_id,
                region=self.region,
                poll_interval=self.poll_interval,
                deadline=self._deadline(context, submitted_at),
                submitted_at=submitted_at,
                errors=errors,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
        )

    def _deadline(self, context: Context, submitted_at: float | None) -> float | None:
        """Earliest of ``timeout`` (from submission) and ``execution_timeout`` (from the start of the try), or ``None``.

        Airflow itself does not apply ``execution_timeout`` to a task that is deferred.
        """
        ends = []
        if self.timeout is not None and submitted_at is not None:
            ends.append(submitted_at + self.timeout)
        started = context["ti"].start_date
        if self.execution_timeout is not None and started is not None:
            ends.append(started.timestamp() + self.execution_timeout.total_seconds())
        return min(ends, default=None)

    def _wait(self, context: Context, job_id: str, submitted_at: float) -> str:
        state = None
        for view in self.hook.wait(job_id, poll_interval=self.poll_interval):
            if str(view.job_state) != state:
                state = str(view.job_state)
                self.log.info("Job %s is %s", job_id, state)
            if judge(view.job_state).is_final:
                return self._finish(context, view, {"submitted_at": submitted_at, "confirmed_at": time.time()})
            # Airflow sees to execution_timeout here.
            if self.timeout is not None and time.time() >= submitted_at + self.timeout:
                self._give_up(job_id, state, submitted_at)
        raise AssertionError("unreachable: waiting ends by return or by exception")

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> str:
        """Go on after the triggerer has seen the job end.

        :param event: what :class:`~airflow_provider_tcbatch.triggers.job.TCBatchJobTrigger` yielded.
        """
        resumed_at = time.time()
        self._mask_secrets()
        job_id = self._job_id = str(event["job_id"])
        submitted_at = event.get("submitted_at")
        state, source, view = event.get("state"), event.get("source"), None
        if event["status"] != "ended":
            view = self._look_again(context, event)
            state, source = str(view.job_state), "last look"
        timeline = {
            "submitted_at": submitted_at,
            "event_received_at": event.get("event_received_at"),
            "confirmed_at": event.get("observed_at") or resumed_at,
            "resumed_at": resumed_at,
        }
        self.log.info("Job %s is %s (heard by %s)", job_id, state, source)
        if judge(str(state)).verdict is Verdict.SUCCESS and self.logs != "all":
            self._push_timeline(context, timeline)
            return job_id
        return self._finish(context, view or self.hook.describe_job(job_id), timeline)

    def _look_again(self, context: Context, event: Mapping[str, Any]) -> DescribeJobResult:
        """The trigger gave up, or could not go on: the job may have ended all the same, while nobody could look."""
        job_id, submitted_at = str(event["job_id"]), event.get("submitted_at")
        try:
            view = self.hook.describe_job(job_id)
        except TCBatchError as error:
            why = "its time is up" if event["status"] == "timeout" else f"waiting failed ({event.get('message')})"
            raise TCBatchError(
                f"Job {job_id}: {why}, and it can't be looked at: {error}. It may still be running: see "
                f"{self.hook.settings.job_url(job_id)}"
            ) from error
        if judge(view.job_state).is_final:
            return view
        if event["status"] == "timeout":
            return self._give_up(job_id, str(view.job_state), submitted_at)
        errors = int(event.get("errors") or 0) + 1
        if errors > _TRIGGER_ERRORS:
            raise TCBatchError(
                f"Waiting for job {job_id} failed {errors} times, the last time with: {event.get('message')}. It is "
                f"still {view.job_state}: see {self.hook.settings.job_url(job_id)}"
            )
        self.log.warning("Waiting failed, but the service answers; going on. It was: %s", event.get("message"))
        return self._defer(context, job_id, submitted_at, errors)

    def _finish(self, context: Context, view: DescribeJobResult, timeline: dict[str, float | None]) -> str:
        self._push_timeline(context, timeline)
        failed = judge(view.job_state).verdict is not Verdict.SUCCESS
        outputs = self._outputs(view, failed_only=failed) if failed or self.logs == "all" else []
        if self.logs != "none":
            for output in outputs:
                self._show(output.task_name, output.view.task_instance_index, output.stdout, output.stderr)
        if failed:
            raise JobFailed(
                self.hook.explain_failure(view, outputs),
                job_id=view.job_id,
                exit_codes=[output.view.exit_code for output in outputs],
            )
        return view.job_id

    def _outputs(self, view: DescribeJobResult, *, failed_only: bool) -> list[InstanceOutput]:
        """What instances printed; less, or nothing, where it can't be read: that must not hide how the job ended."""
        outputs: list[InstanceOutput] = []
        try:
            outputs.extend(self.hook.instance_outputs(view, failed_only=failed_only, limit=self.log_instances))
        except TCBatchError as error:
            self.log.warning("Output of job %s can't be read: %s", view.job_id, error)
        return outputs

    def _show(self, task: str, index: int, stdout: str, stderr: str) -> None:
        for stream, text in (("stdout", stdout), ("stderr", stderr)):
            for line in text.splitlines():
                self.log.info("[%s %d %s] %s", task, index, stream, line)

    def _push_timeline(self, context: Context, timeline: dict[str, float | None]) -> None:
        context["ti"].xcom_push(key="tcbatch_timeline", value=timeline)

    # -- ending early --------------------------------------------------------------------------------

    def _give_up(self, job_id: str, state: str | None, submitted_at: float | None) -> NoReturn:
        try:
            # The service refuses while the job is SUBMITTED.
            self.hook.terminate_job(job_id, patience=30.0)
            ending = "it is being terminated"
        except TCBatchError as error:
            ending = f"and could not be terminated: {error}"
        if self.timeout is not None and submitted_at is not None and time.time() >= submitted_at + self.timeout:
            limit = f"timeout ({self.timeout:.0f} s from its submission)"
        else:
            limit = f"execution_timeout ({self.execution_timeout})"
        raise JobTimeout(
            f"Job {job_id} did not end within {limit}, its last state is {state}; {ending}. "
            f"Console: {self.hook.settings.job_url(job_id)}",
            job_id=job_id,
        )

    def on_kill(self) -> None:
        """Terminate the job, in the few seconds that Airflow gives.

        This runs in a signal handler, on the thread that may hold Airflow's own lock: the call is made by another
        thread, with the client that is there already, and nothing here talks to Airflow.
        """
        if self._job_id is None or not self.cancel_on_kill:
            return
        job_id, hook = self._job_id, self.hook

        def terminate() -> None:
            try:
                hook.terminate_job(job_id, patience=_KILL_SECONDS - 0.5)
            except TCBatchError as error:
                self.log.warning("Job %s could not be terminated: %s", job_id, error)

        helper = threading.Thread(target=terminate, name="tcbatch-terminate", daemon=True)
        helper.start()
        helper.join(_KILL_SECONDS)


def _seconds(name: str, value: float | timedelta, task_id: str) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
        raise InvalidRequest(f"Task {task_id!r}: {name} is {value!r}; write seconds above 0, or a timedelta")
    return float(seconds)


def _is_path(text: str) -> bool:
    """Whether a job is the path of a template file: text of several lines never is."""
    return text.endswith(FILE_ENDINGS) and "\n" not in text


def _known_later(value: Any) -> bool:
    """Whether a value is only known at run time: text with Jinja, or the output of another task."""
    return is_jinja(value) or callable(getattr(value, "resolve", None))


def _read(text: str, task_id: str) -> Any:
    """Read JSON or YAML text (JSON is YAML, but is read faster and says better what is wrong)."""
    try:
        data = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise InvalidRequest(f"Task {task_id!r}: job is neither valid JSON nor valid YAML: {error}") from None
    if not isinstance(data, Mapping):
        raise InvalidRequest(
            f"Task {task_id!r}: job must be a mapping with Tasks in it, but the text holds {type(data).__name__}. (The "
            f"path of a template file ends in {', '.join(FILE_ENDINGS)} and must stand in the DAG file as it is, not "
            "come from Jinja or another task.)"
        )
    return data


def _source(env: jinja2.Environment, path: str, task_id: str) -> str:
    import jinja2

    try:
        if env.loader is None:
            raise jinja2.TemplateNotFound(path)
        return env.loader.get_source(env, path)[0]
    except jinja2.TemplateNotFound:
        raise InvalidRequest(
            f"Task {task_id!r}: job names the template file {path!r}, which is neither beside the DAG file nor in the "
            "DAG's template_searchpath"
        ) from None
