"""Jinja in the object that an operator takes: text stays text, and what can't be rendered is named."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

__all__ = ["as_text", "is_native", "naming", "syntax_error"]

#: What a run without a logical date does not have.
_DATED = ("ds", "ts", "logical_date", "data_interval_start", "data_interval_end")

#: What begins and ends in Jinja.
_PAIRS = (("{{", "}}"), ("{%", "%}"), ("{#", "#}"))


def is_native(env: jinja2.Environment) -> bool:
    """Whether an environment makes Python objects (``render_template_as_native_obj``)."""
    from jinja2.nativetypes import NativeEnvironment

    return isinstance(env, NativeEnvironment)


def as_text(env: jinja2.Environment, text: str, context: Context) -> str | None:
    """Render in a native environment, and leave what comes out as the text that it is.

    :returns: ``None`` if the whole text is one expression whose value is ``None``.
    """
    template = env.from_string(text)
    # As Airflow does it: its context says what is deprecated when a value is read, so none is read for a copy.
    values: Any = copy.copy(context)
    values.update((name, value) for name, value in template.globals.items() if name not in values)
    try:
        parts = list(template.root_render_func(template.new_context(values, shared=True)))
        if len(parts) == 1 and parts[0] is None:
            return None
        return "".join(map(str, parts))
    except Exception:
        env.handle_exception()  # points its traceback to the template


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Say where a text stands that is no valid Jinja, or names what is not there.

    :param where: beginning of the message.
    :raises InvalidRequest: in the place of Jinja's own errors.
    """
    import jinja2

    try:
        yield
    except jinja2.TemplateSyntaxError as error:
        raise PermanentInvalidRequest(f"{where}: {_advice(error)}") from None
    except jinja2.UndefinedError as error:
        hint = ""
        if any(f"'{name}" in str(error) for name in _DATED):
            hint = ". The run has no logical date (it was triggered without one); dag_run.run_after is always there"
        raise InvalidRequest(f"{where}: {error}{hint}") from None


def syntax_error(text: str) -> str | None:
    """What is wrong with a text's Jinja; ``None`` if nothing can be seen.

    Tags that an extension of Jinja may know are not looked at, and texts in which all that begins ends are taken for
    good: it is called for every text of a DAG file.
    """
    if all(text.count(begin) == text.count(end) for begin, end in _PAIRS):
        return None
    return _parsed(text)


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> str | None:
    import jinja2

    try:
        jinja2.Environment(autoescape=False).parse(text)
    except jinja2.TemplateSyntaxError as error:
        return None if "unknown tag" in str(error) else _advice(error)
    return None


def _advice(error: jinja2.TemplateSyntaxError) -> str:
    what = f"not valid Jinja, line {error.lineno}: {error.message}."
    if "comment" in str(error.message):
        what += " ({# begins a comment.)"
    return f"{what} Text that is not meant for Jinja stands between {{% raw %}} and {{% endraw %}}"
