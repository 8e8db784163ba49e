"""An argument that is an API object: however it is written, it is checked at parse time and before it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from airflow.sdk.log import mask_secret

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.wire import WireForm, is_jinja, put_secrets_back, to_wire_form, with_placeholders
from airflow_provider_tcbatch.operators.base import TCBatchOperator

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context
    from pydantic import SecretStr

__all__ = ["FILE_ENDINGS", "TakesObject", "is_path", "known_later", "read"]

#: How an argument that is the path of a template file ends.
FILE_ENDINGS = (".yaml", ".yml", ".json")


class TakesObject(TCBatchOperator):
    """Base of operators with an argument that is an object of the API.

    It may be a model, a mapping in either spelling, JSON or YAML text, the path of a template file, or the output of
    another task. An operator names the argument, hands it to :meth:`take` when it is made, and asks for it with
    :meth:`final_wire` when it runs. The argument is a template field.

    :cvar argument: name of the argument.
    :cvar model: type of the object.
    :cvar written_as: what its text must hold, for the message.
    """

    argument: ClassVar[str]
    model: ClassVar[type[ApiModel]]
    written_as: ClassVar[str] = "a mapping"

    #: Airflow knows by its identity whether a value came from another task and must not be rendered.
    _given: Any = None

    #: Literal secrets of the argument, by their path.
    _secrets: Mapping[Any, SecretStr] = MappingProxyType({})

    #: Fields that rendering has emptied, until they are told.
    _vanished: Sequence[str] = ()

    def take(self, given: Any) -> None:
        """Keep the argument in wire JSON, and check what can be seen before rendering.

        Wire JSON, because Airflow would store a model as ``str(model)`` and not render inside it. Literal secrets are
        taken out of the template field: it is stored with the DAG and shown in the UI.
        """
        self.keep(_given=given)
        if isinstance(given, str) and not is_jinja(given) and not is_path(given):
            given = self._read(given)
        if not isinstance(given, (ApiModel, Mapping)):
            setattr(self, self.argument, given)
            return
        form = self.wire_form(given)
        setattr(self, self.argument, form.data)
        if form.secrets:
            self._secrets = form.secrets
        self.check_early(form.data)

    def wire_form(self, value: Any) -> WireForm:
        """A value in wire JSON, with its secrets beside it."""
        return to_wire_form(self.model, value)

    def check_early(self, wire: Any) -> None:
        """Check the object as far as it is known when the DAG is parsed.

        :param wire: wire JSON, with Jinja and other tasks' outputs in it.
        :raises InvalidRequest: naming what is wrong with it.
        """
        self.model.parse(with_placeholders(self.model, wire, known_later), at=self.model.__name__)

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
        if content is getattr(self, self.argument):
            if seen_oids is not None and id(self._given) in seen_oids:
                return content
            if isinstance(content, str) and is_path(content):
                content = self._source(jinja_env or self.get_template_env(), content)
            rendered = super().render_template(content, context, jinja_env, seen_oids)
            self._vanished = list(_vanished(content, rendered, self.model.__name__))
            return rendered
        return super().render_template(content, context, jinja_env, seen_oids)

    def final_wire(self) -> dict[str, Any]:
        """The object in wire JSON, rendered, with its secrets in clear, not yet checked again.

        A field that was to come from Jinja or another task, and came as ``None``, counts as not given. That may be
        meant, or a misspelt key: a warning names it.
        """
        self.mask_secrets()
        for path in self._vanished:
            self.log.warning(
                "%s is None after rendering, as if it were not given: is the XCom, or the key in it, there?", path
            )
        self._vanished = ()
        value = getattr(self, self.argument)
        form = self.wire_form(self._read(value) if isinstance(value, str) else value)
        # First those that rendering has brought, then those that were kept apart from the template field.
        wire: dict[str, Any] = put_secrets_back(put_secrets_back(form.data, form.secrets), self._secrets)
        return wire

    def mask_secrets(self) -> None:
        """Keep literal secrets of the object out of the log: programs may print them."""
        for secret in self._secrets.values():
            mask_secret(secret.get_secret_value())

    def _read(self, text: str) -> Any:
        return read(text, f"Task {self.task_id!r}: {self.argument}", self.written_as)

    def _source(self, env: jinja2.Environment, path: str) -> str:
        """Text of a template file."""
        import jinja2

        try:
            if env.loader is None:
                raise jinja2.TemplateNotFound(path)
            return env.loader.get_source(env, path)[0]
        except jinja2.TemplateNotFound:
            raise InvalidRequest(
                f"Task {self.task_id!r}: {self.argument} names the template file {path!r}, which is neither beside the "
                "DAG file nor in the DAG's template_searchpath"
            ) from None


def is_path(text: str) -> bool:
    """Whether text is the path of a template file: text of several lines never is."""
    return text.endswith(FILE_ENDINGS) and "\n" not in text


def known_later(value: Any) -> bool:
    """Whether a value is only known at run time: text with Jinja, or the output of another task."""
    if isinstance(value, str):
        return "{" in value and is_jinja(value)
    return callable(getattr(value, "resolve", None))


def _vanished(written: Any, rendered: Any, path: str) -> Iterator[str]:
    """Paths of what was only known at run time, and turned out to be nothing."""
    if rendered is None:
        if known_later(written):
            yield path
    elif isinstance(written, Mapping) and isinstance(rendered, Mapping):
        for name, value in written.items():
            if name in rendered:
                yield from _vanished(value, rendered[name], f"{path}.{name}")
    elif isinstance(written, (list, tuple)) and isinstance(rendered, (list, tuple)):
        for number, (value, after) in enumerate(zip(written, rendered, strict=False)):
            yield from _vanished(value, after, f"{path}[{number}]")


def read(text: str, name: str, written_as: str) -> Any:
    """Read JSON or YAML text (JSON is YAML, but is read faster and says better what is wrong).

    :param name: what it is, for messages.
    :param written_as: what it must hold, for messages.
    """
    try:
        data = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{name} is neither valid JSON nor valid YAML: {error}") from None
    if not isinstance(data, Mapping):
        raise InvalidRequest(
            f"{name} must be {written_as}, but the text holds {type(data).__name__}. (The path of a template file ends "
            f"in {', '.join(FILE_ENDINGS)} and must stand in the DAG file as it is, not come from Jinja or another "
            "task.)"
        )
    return data
