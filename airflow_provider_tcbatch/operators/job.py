"""Operators for jobs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml
from airflow.sdk import BaseOperator

from airflow_provider_tcbatch.exceptions import InvalidRequest, JobFailed, JobTimeout, TCBatchError
from airflow_provider_tcbatch.links import TCBatchJobLink
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.models.wire import is_jinja, put_secrets_back, to_wire_form, with_placeholders
from airflow_provider_tcbatch.policies.outcome import Verdict, judge
from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult

__all__ = ["TCBatchSubmitJobOperator"]

#: How a ``job`` that is the path of a template file ends.
FILE_ENDINGS = (".yaml", ".yml", ".json")

#: Seconds that on_kill may take: Airflow kills the process 5 s after it asked it to end.
_KILL_SECONDS = 4.0


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
    :param cancel_on_kill: terminate the job when the task is killed while it runs on a worker.
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
        poll_interval: float = 30.0,
        timeout: float | None = None,
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
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.logs = logs
        self.log_instances = log_instances
        self._job_id: str | None = None
        self._secrets: dict[Any, Any] = {}
        self._check_early()

    # -- before a run --------------------------------------------------------------------------------

    def _check_early(self) -> None:
        """Bring the job into wire JSON and check what can be seen before rendering.

        Wire JSON, because Airflow would store a model as ``str(model)`` and not render inside it. Literal secrets are
        taken out of the template field: it is stored with the DAG and shown in the UI.
        """
        job = self.job
        if isinstance(job, str) and not is_jinja(job) and not job.endswith(FILE_ENDINGS):
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
        """Render as usual, after putting the text of a template file in the place of its path."""
        if content is self.job and isinstance(content, str) and content.endswith(FILE_ENDINGS):
            env = jinja_env or self.get_template_env()
            content = _source(env, content, self.task_id)
        return super().render_template(content, context, jinja_env, seen_oids)

    def _final_job(self) -> Job:
        """The job as it is sent: rendered, with its secrets, checked."""
        job = _read(self.job, self.task_id) if isinstance(self.job, str) else self.job
        return Job.parse(put_secrets_back(to_wire_form(Job, job).data, self._secrets), at="Job")

    @cached_property
    def hook(self) -> TCBatchHook:
        """Hook for the operator's connection and region."""
        from airflow_provider_tcbatch.hooks.batch import TCBatchHook

        return TCBatchHook(self.tencentcloud_conn_id, self.region)

    # -- a run ---------------------------------------------------------------------------------------

    def execute(self, context: Context) -> str:
        """Submit the job; wait, or leave the waiting to the triggerer."""
        ti = context["ti"]
        submitted_at = time.time()
        job_id = self._job_id = self.hook.submit_job(
            self._final_job(),
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
        deadline = None if self.timeout is None else submitted_at + self.timeout
        # A job may be over before a trigger could start; and a wrong id or permission shows here, not there.
        view = self.hook.describe_job(job_id)
        if judge(view.job_state).is_final:
            return self._finish(context, view, {"submitted_at": submitted_at, "confirmed_at": time.time()})
        if self.deferrable:
            ti.xcom_push(key="tcbatch_timeline", value={"submitted_at": submitted_at})
            self.defer(
                trigger=TCBatchJobTrigger(
                    job_id=job_id,
                    tencentcloud_conn_id=self.tencentcloud_conn_id,
                    region=self.region,
                    poll_interval=self.poll_interval,
                    deadline=deadline,
                ),
                method_name="execute_complete",
            )
        return self._wait(context, job_id, submitted_at, deadline)

    def _wait(self, context: Context, job_id: str, submitted_at: float, deadline: float | None) -> str:
        state = None
        for view in self.hook.wait(job_id, poll_interval=self.poll_interval):
            if str(view.job_state) != state:
                state = str(view.job_state)
                self.log.info("Job %s is %s", job_id, state)
            if judge(view.job_state).is_final:
                return self._finish(context, view, {"submitted_at": submitted_at, "confirmed_at": time.time()})
            if deadline is not None and time.time() >= deadline:
                self._give_up(job_id, state)
        raise AssertionError("unreachable: waiting ends by return or by exception")

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> str:
        """Go on after the triggerer has seen the job end.

        :param event: what :class:`~airflow_provider_tcbatch.triggers.job.TCBatchJobTrigger` yielded.
        """
        resumed_at = time.time()
        job_id = str(event["job_id"])
        if event["status"] == "timeout":
            # It may have ended just now, or while nobody could look.
            view = self.hook.describe_job(job_id)
            if not judge(view.job_state).is_final:
                self._give_up(job_id, str(view.job_state))
            event = {**event, "status": "ended", "state": str(view.job_state), "source": "last look"}
        if event["status"] != "ended":
            raise TCBatchError(f"Waiting for job {job_id} failed: {event.get('message')}")
        stored = context["ti"].xcom_pull(task_ids=self.task_id, key="tcbatch_timeline") or {}
        timeline = {
            "submitted_at": stored.get("submitted_at") if isinstance(stored, Mapping) else None,
            "event_received_at": event.get("event_received_at"),
            "confirmed_at": event.get("observed_at"),
            "resumed_at": resumed_at,
        }
        self.log.info("Job %s is %s (heard by %s)", job_id, event["state"], event["source"])
        succeeded = judge(event["state"]).verdict is Verdict.SUCCESS
        if succeeded and self.logs != "all":
            self._push_timeline(context, timeline)
            return job_id
        return self._finish(context, self.hook.describe_job(job_id), timeline)

    def _finish(self, context: Context, view: DescribeJobResult, timeline: dict[str, float | None]) -> str:
        self._push_timeline(context, timeline)
        failed = judge(view.job_state).verdict is not Verdict.SUCCESS
        if failed:
            self._fail(view)
        if self.logs == "all":
            for output in self.hook.instance_outputs(view, failed_only=False, limit=self.log_instances):
                self._show(output.task_name, output.view.task_instance_index, output.stdout, output.stderr)
        return view.job_id

    def _fail(self, view: DescribeJobResult) -> None:
        outputs = list(self.hook.instance_outputs(view, limit=self.log_instances)) if self.logs != "none" else []
        for output in outputs:
            self._show(output.task_name, output.view.task_instance_index, output.stdout, output.stderr)
        raise JobFailed(
            self.hook.explain_failure(view, outputs),
            job_id=view.job_id,
            exit_codes=[output.view.exit_code for output in outputs],
        )

    def _show(self, task: str, index: int, stdout: str, stderr: str) -> None:
        for stream, text in (("stdout", stdout), ("stderr", stderr)):
            for line in text.splitlines():
                self.log.info("[%s %d %s] %s", task, index, stream, line)

    def _push_timeline(self, context: Context, timeline: dict[str, float | None]) -> None:
        context["ti"].xcom_push(key="tcbatch_timeline", value=timeline)

    # -- ending early --------------------------------------------------------------------------------

    def _give_up(self, job_id: str, state: str | None) -> None:
        try:
            self.hook.terminate_job(job_id, attempts=3)
            ending = "it is being terminated"
        except TCBatchError as error:
            ending = f"and could not be terminated: {error}"
        raise JobTimeout(
            f"Job {job_id} did not end within {self.timeout:.0f} s of its submission (last state {state}); {ending}. "
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
            until = time.monotonic() + _KILL_SECONDS - 0.5
            while True:
                try:
                    hook.terminate_job(job_id)
                    return
                except TCBatchError as error:
                    # While the job is SUBMITTED the service refuses; which code it uses is not documented.
                    if time.monotonic() >= until:
                        self.log.warning("Job %s could not be terminated: %s", job_id, error)
                        return
                    time.sleep(0.5)

        helper = threading.Thread(target=terminate, name="tcbatch-terminate", daemon=True)
        helper.start()
        helper.join(_KILL_SECONDS)


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
            f"Task {task_id!r}: job must be a mapping with Tasks in it, but the text holds {type(data).__name__}; the "
            f"path of a template file ends in {', '.join(FILE_ENDINGS)}"
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
