"""An argument that is an API object: however it is written, it is checked at parse time and before it is sent."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from airflow.sdk.log import mask_secret
from pydantic.alias_generators import to_snake

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.wire import (
    Wanted,
    WireForm,
    is_jinja,
    put_secrets_back,
    secrets_of,
    texts,
    to_wire_form,
    with_placeholders,
    with_texts,
    with_values,
)
from airflow_provider_tcbatch.operators._base.jinja import as_text, is_native, naming, syntax_error
from airflow_provider_tcbatch.operators._base.operator import TCBatchOperator

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context
    from pydantic import SecretStr

__all__ = ["FILE_ENDINGS", "TakesObject", "is_path", "known_later", "mask_secrets_of", "read"]

#: What to do with parts of a whole request that no operator takes.
_OTHER_PARTS = {
    "ClientToken": "leave it out; each run has a token of its own, and with the same one all would be one",
    "Region": "write it as the argument region",
    "TaskTemplateName": "write it as the argument name or new_name",
    "TaskTemplateDescription": "write it as the argument description",
    "Tags": "write it as the argument tags",
}

#: Strings of JSON, and what may stand outside of them though it is no JSON.
_OUTSIDE = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|\t')

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
    :cvar request_field: the field that holds it in a whole request, as the console's API explorer, the SDKs and
        ``tccli --cli-input-json`` have it: that may be given instead.
    :cvar request_parts: other fields of such a request, and the operator's arguments for them.
    """

    argument: ClassVar[str]
    model: ClassVar[type[ApiModel]]
    written_as: ClassVar[str] = "a mapping"
    request_field: ClassVar[str]
    request_parts: ClassVar[Mapping[str, str]] = MappingProxyType({})

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
        self._check_jinja(form.data)
        self.check_early(form.data)

    def wire_form(self, value: Any) -> WireForm:
        """A value in wire JSON, with its secrets beside it."""
        if isinstance(value, Mapping) and (name := _spelled(self.request_field, value)) is not None:
            self._take_apart({part: given for part, given in value.items() if part != name})
            value = value[name]
        return to_wire_form(self.model, value)

    def _take_apart(self, parts: Mapping[str, Any]) -> None:
        """Give the other parts of a whole request to the operator's own arguments.

        :raises InvalidRequest: saying what to do with a part that it can't take.
        """
        begin = f"Task {self.task_id!r}: {self.argument} is a whole request, and"
        for name, given in parts.items():
            if given is None or given in ("", {}, []):
                continue
            known = next((part for part in self.request_parts if _spelled(part, [name]) is not None), None)
            if known is None:
                raise InvalidRequest(f"{begin} {name} has no place here: {_OTHER_PARTS.get(name, 'leave it out')}")
            argument = self.request_parts[known]
            if (own := getattr(self, argument, None)) not in (None, given):
                raise InvalidRequest(
                    f"{begin} its {name} differs from the argument {argument} ({own!r}): leave one out"
                )
            self.keep(**{argument: given})

    def _check_jinja(self, wire: Any) -> None:
        """Find what is no Jinja, such as a shell's ``${#names}``, while the DAG is parsed."""
        dag = self.get_dag()
        if dag is not None and dag.jinja_environment_kwargs:
            return  # another grammar
        for path, text in texts(wire, self.model.__name__):
            if is_jinja(text) and (error := syntax_error(text)) is not None:
                raise InvalidRequest(f"Task {self.task_id!r}: {path}: {error}")

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
            env = jinja_env or self.get_template_env()
            name = self.argument
            if isinstance(content, str) and is_path(content):
                name, content = f"{name} ({content})", self._source(env, content)
            rendered = self._render_object(content, context, env, seen_oids, name)
            self._vanished = list(_vanished(content, rendered, self.model.__name__))
            self._mask_rendered(rendered)
            return rendered
        return super().render_template(content, context, jinja_env, seen_oids)

    def _render_object(
        self, content: Any, context: Context, env: jinja2.Environment, seen_oids: set[int] | None, name: str
    ) -> Any:
        """Render an object end by end: text where its model wants text, and with the path of what can't be rendered.

        With ``render_template_as_native_obj`` Airflow makes Python of all that looks like it: of ``20240101`` a number,
        of ``007`` text.
        """
        native = is_native(env)

        def render(wanted: Wanted, value: Any, path: str) -> Any:
            if not known_later(value):
                return value
            with naming(f"Task {self.task_id!r}: {path}"):
                if wanted.text and native and isinstance(value, str):
                    return as_text(env, value, context)
                # Airflow's own rendering, by the class above.
                return with_texts(wanted, super(TakesObject, self).render_template(value, context, env, seen_oids))

        whole = not isinstance(content, (Mapping, list, tuple))
        return with_values(Wanted(self.model), content, render, name if whole else self.model.__name__)

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

    def _mask_rendered(self, rendered: Any) -> None:
        """Keep the secrets that rendering has brought out of the log, and of what Airflow stores of template fields."""
        with contextlib.suppress(InvalidRequest):  # told when it is used
            value = self._read(rendered) if isinstance(rendered, str) else rendered
            if isinstance(value, Mapping) and (name := _spelled(self.request_field, value)) is not None:
                value = value[name]
            mask_secrets_of(self.model, value)

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


def _spelled(name: str, names: Iterable[str]) -> str | None:
    """How a field of a request is written, in either spelling; ``None`` if it is not there."""
    return next((given for given in names if given in (name, to_snake(name))), None)


def mask_secrets_of(model: type[ApiModel], value: Any) -> None:
    """Keep the secrets of an object out of logs and of rendered fields.

    :param model: its type.
    :param value: the object, as a model or in wire JSON.
    """
    for secret in secrets_of(model, value):
        mask_secret(secret)


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
    """Read JSON or YAML text; JSON may hold comments (``//``) and tabs, as Tencent's samples do.

    :param name: what it is, for messages.
    :param written_as: what it must hold, for messages.
    """
    data = _data_of(text, name)
    if not isinstance(data, Mapping):
        raise InvalidRequest(
            f"{name} must be {written_as}, but the text holds {type(data).__name__}. (The path of a template file ends "
            f"in {', '.join(FILE_ENDINGS)} and must stand in the DAG file as it is, not come from Jinja or another "
            "task.)"
        )
    return data


def _data_of(text: str, name: str) -> Any:
    # JSON is YAML, but is read faster, and what is wrong with it is said better.
    if not text.lstrip().startswith("{"):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidRequest(f"{name} is neither valid JSON nor valid YAML: {error}") from None
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(text)
    with contextlib.suppress(yaml.YAMLError):
        return yaml.safe_load(text)
    plain = _OUTSIDE.sub(lambda match: match[0] if match[0].startswith('"') else " ", text)
    try:
        return json.loads(plain)
    except json.JSONDecodeError as error:
        wrong = error
    # A comma after the last item is YAML.
    with contextlib.suppress(yaml.YAMLError):
        return yaml.safe_load(plain)
    raise InvalidRequest(
        f"{name} is neither valid JSON nor valid YAML: line {wrong.lineno}, column {wrong.colno}: {wrong.msg}. Is a "
        "comma or a quote missing before it?"
    ) from None
