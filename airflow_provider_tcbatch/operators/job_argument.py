"""The ``job`` argument: however it is written, it is checked when the DAG is parsed and again before it is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml
from airflow.sdk.log import mask_secret

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.models.wire import is_jinja, put_secrets_back, to_wire_form, with_placeholders
from airflow_provider_tcbatch.operators.base import TCBatchOperator

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context
    from pydantic import SecretStr

__all__ = ["TakesJob"]

#: How a ``job`` that is the path of a template file ends.
FILE_ENDINGS = (".yaml", ".yml", ".json")


class TakesJob(TCBatchOperator):
    """Base of operators with a ``job``.

    :param job: a :class:`~airflow_provider_tcbatch.models.job.Job`, a dictionary in either spelling, JSON or YAML
        text, or the path of a template file. (templated)
    """

    def __init__(self, *, job: Job | Mapping[str, Any] | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job
        self._secrets: dict[Any, SecretStr] = {}
        # Airflow knows by its identity whether a value came from another task and must not be rendered.
        self._given = job
        self._check_early()

    def _check_early(self) -> None:
        """Bring the job into wire JSON and check what can be seen before rendering.

        Wire JSON, because Airflow would store a model as ``str(model)`` and not render inside it. Literal secrets are
        taken out of the template field: it is stored with the DAG and shown in the UI.
        """
        job = self.job
        if isinstance(job, str) and not is_jinja(job) and not is_path(job):
            job = read(job, self.task_id)
        if isinstance(job, (Job, Mapping)):
            form = to_wire_form(Job, job)
            self.job, self._secrets = form.data, form.secrets
            Job.parse(with_placeholders(Job, form.data, known_later), at="Job")

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
            if isinstance(content, str) and is_path(content):
                content = source(jinja_env or self.get_template_env(), content, self.task_id)
        return super().render_template(content, context, jinja_env, seen_oids)

    def final_job(self) -> Job:
        """The job as it is sent: rendered, with its secrets, checked.

        :raises InvalidRequest: naming what is wrong with it.
        """
        self.mask_secrets()
        job = read(self.job, self.task_id) if isinstance(self.job, str) else self.job
        return Job.parse(put_secrets_back(to_wire_form(Job, job).data, self._secrets), at="Job")

    def mask_secrets(self) -> None:
        """Keep literal secrets of the job out of the log: its programs may print them."""
        for secret in self._secrets.values():
            mask_secret(secret.get_secret_value())


def is_path(text: str) -> bool:
    """Whether a job is the path of a template file: text of several lines never is."""
    return text.endswith(FILE_ENDINGS) and "\n" not in text


def known_later(value: Any) -> bool:
    """Whether a value is only known at run time: text with Jinja, or the output of another task."""
    return is_jinja(value) or callable(getattr(value, "resolve", None))


def read(text: str, task_id: str) -> Any:
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


def source(env: jinja2.Environment, path: str, task_id: str) -> str:
    """Text of a template file."""
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
