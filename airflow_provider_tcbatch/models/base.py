"""What every API object has in common.

Python code writes ``task_instance_num``, the wire says ``TaskInstanceNum``: both spellings are accepted
on input, only the second is ever sent.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import AliasGenerator, BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.alias_generators import to_pascal

from airflow_provider_tcbatch.exceptions import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails
    from typing_extensions import Self

__all__ = ["ApiModel", "invalid_request", "reveal"]


class ApiModel(BaseModel):
    """Base of all API objects: snake_case in Python, PascalCase on the wire, no unknown fields.

    Validators are built on first use: a DAG file that imports an operator should not pay for the
    types it never touches.
    """

    model_config = ConfigDict(
        alias_generator=AliasGenerator(alias=to_pascal),
        populate_by_name=True,
        extra="forbid",
        defer_build=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def parse(cls, data: Any, *, at: str = "") -> Self:
        """Validate plain data strictly.

        :param data: mapping with wire or Python field names.
        :param at: path of ``data`` inside what the user wrote, used as a prefix in messages.
        :raises InvalidRequest: naming each field's path, the rule and what to write instead.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise invalid_request(error, cls, at=at) from None

    @classmethod
    def parse_response(cls, data: Mapping[str, Any]) -> Self:
        """Validate an answer of the service, whose *new* fields must not break old clients."""
        return cls.model_validate(data, extra="ignore")

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON with wire names, as it is sent: secrets in clear, unset fields left out."""
        wire = reveal(self.model_dump(by_alias=True, exclude_unset=True, exclude_none=True, mode="python"))
        assert isinstance(wire, dict)
        return wire


def reveal(value: Any) -> Any:
    """Turn a dumped model into plain JSON types: enums to their values, secrets to clear text."""
    if isinstance(value, dict):
        return {key: reveal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [reveal(item) for item in value]
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, str):
        # A ``str`` enum prints as "JobState.FAILED" when it meets Jinja: keep the plain string only.
        return str.__str__(value) if type(value) is str else str(getattr(value, "value", value))
    return value


def invalid_request(error: ValidationError, model: type[BaseModel], *, at: str = "") -> InvalidRequest:
    """Turn pydantic's error into one readable error.

    :param error: what pydantic found.
    :param model: the type that was validated; its field names feed the suggestions.
    :param at: prefix of every path.
    """
    problems = [_problem(details, model, at) for details in error.errors(include_url=False)]
    title = at or model.__name__
    if len(problems) == 1:
        return InvalidRequest(f"Invalid {title}: {problems[0]}", problems=problems)
    listing = "".join(f"\n  - {problem}" for problem in problems)
    return InvalidRequest(f"Invalid {title}, {len(problems)} problems:{listing}", problems=problems)


def _problem(details: ErrorDetails, model: type[BaseModel], at: str) -> str:
    location = tuple(part for part in details["loc"] if not _is_union_branch(part))
    path = _path(location, at)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        owner = _model_at(model, location[:-1])
        known = [field.alias or name for name, field in owner.model_fields.items()] if owner else []
        close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else f"known fields: {', '.join(known)}"
        return f"{path}: unknown field; {hint}"
    if kind == "missing":
        return f"{path}: this field is required"
    if kind in ("value_error", "assertion_error"):
        return f"{path}: {context.get('error', details['msg'])}" if path else str(context.get("error"))
    if kind == "enum":
        return f"{path}: must be one of {context.get('expected')}"
    if kind == "string_type":
        return f"{path}: must be a string (put quotes around it)"
    return f"{path}: {details['msg'][:1].lower()}{details['msg'][1:]}"


def _is_union_branch(part: int | str) -> bool:
    # pydantic adds names such as "function-after[...]" or "list[Task]" to tell union members apart.
    return isinstance(part, str) and ("[" in part or "(" in part)


def _path(location: tuple[int | str, ...], at: str) -> str:
    path = at
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Find the model type that stands at a path, to name its fields."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        field = next(
            (f for name, f in current.model_fields.items() if part in (name, f.alias)),
            None,
        )
        current = model_type(field.annotation) if field else None
    return current


def model_type(annotation: Any) -> type[BaseModel] | None:
    """The model class inside an annotation such as ``list[Task] | None``; ``None`` if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := model_type(argument):
            return found
    return None
