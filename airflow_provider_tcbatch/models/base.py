"""What every API object has in common.

Python code writes ``task_instance_num``, the wire says ``TaskInstanceNum``: both spellings are accepted
on input, only the second is ever sent.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, AliasGenerator, BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.alias_generators import to_pascal

from airflow_provider_tcbatch.exceptions import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic_core import ErrorDetails
    from typing_extensions import Self

__all__ = ["HIDDEN", "ApiModel", "Distinct", "invalid_request", "is_jinja", "model_type", "reveal"]

#: Stands where a secret was taken out.
HIDDEN = "***"


def is_jinja(value: object) -> bool:
    """Whether a value is text that holds a Jinja expression, statement or comment."""
    return isinstance(value, str) and "{" in value and ("{{" in value or "{%" in value or "{#" in value)


def _distinct(values: list[str]) -> list[str]:
    if repeated := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"names {', '.join(repeated)} more than once")
    return values


#: A list that must not name anything twice.
Distinct = Annotated[list[str], AfterValidator(_distinct)]


class ApiModel(BaseModel):
    """Base of all API objects: snake_case in Python, PascalCase on the wire, no unknown fields.

    Validators are built on first use: a DAG file that imports an operator should not pay for the
    types it never touches. Likewise the modules that a DAG file imports do without ``from __future__ import
    annotations``: pydantic would compile and evaluate the text of each annotation again.
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
    def check_part(cls, data: Any, *, at: str = "") -> None:
        """Check an object of which the rest is elsewhere: what is there must be right, each field for itself.

        Rules between fields are left out, and so is what is missing.

        :param data: mapping with wire or Python field names.
        :param at: as for :meth:`parse`.
        :raises InvalidRequest: as :meth:`parse` does.
        """
        try:
            cls.model_validate(data)
        except ValidationError as error:
            faults = [details for details in error.errors(include_url=False) if _is_of_one_field(details, cls)]
            if faults:
                raise _refusal(faults, cls, at) from None

    @classmethod
    def parse_response(cls, data: Mapping[str, Any]) -> Self:
        """Validate an answer of the service, whose *new* fields must not break old clients."""
        return cls.model_validate(data, extra="ignore")

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON with wire names, as it is sent: secrets in clear, unset fields left out."""
        return self._wire(SecretStr.get_secret_value)

    def __str__(self) -> str:
        """Wire JSON with its secrets hidden: Airflow stores ``str(model)`` of what stands in ``expand(...)``."""
        return json.dumps(self._wire(_shown), ensure_ascii=False)

    def _wire(self, secret: Callable[[SecretStr], str]) -> dict[str, Any]:
        # Quiet about unexpected types: what an answer echoed is kept as it came.
        dumped = self.model_dump(by_alias=True, exclude_unset=True, exclude_none=True, mode="python", warnings=False)
        wire = reveal(dumped, secret)
        assert isinstance(wire, dict)
        return wire

    @classmethod
    def without_unknowns(cls, wire: dict[str, Any], is_template: Callable[[Any], bool]) -> dict[str, Any]:
        """Leave out, or fill in, what a rule *between* fields can't judge before Jinja is rendered.

        The rules of a single field are no concern of this method: a placeholder satisfies them.

        :param wire: wire JSON of this type, expressions still in it.
        :param is_template: whether a value is only known at run time.
        """
        return wire

    def _exclusive(self, *names: str) -> None:
        """Refuse more than one of these fields.

        :param names: Python names.
        """
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            fields = type(self).model_fields
            aliases = [str(fields[name].alias) for name in given]
            raise ValueError(f"{' and '.join(aliases)} exclude one another; keep one of them")


def _shown(secret: SecretStr) -> str:
    # A reference to a secret is none, and says more than stars.
    value = secret.get_secret_value()
    return value if is_jinja(value) else HIDDEN


def reveal(value: Any, secret: Callable[[SecretStr], str] = SecretStr.get_secret_value) -> Any:
    """Turn a dumped model into plain JSON types: enums to their values, secrets to text.

    :param secret: what to write for a secret; by default the secret itself.
    """
    if isinstance(value, dict):
        return {key: reveal(item, secret) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [reveal(item, secret) for item in value]
    if isinstance(value, SecretStr):
        return secret(value)
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
    return _refusal(error.errors(include_url=False), model, at)


def _refusal(faults: Sequence[ErrorDetails], model: type[BaseModel], at: str) -> InvalidRequest:
    problems = [_problem(details, model, at) for details in faults]
    title = at or model.__name__
    if len(problems) == 1:
        return InvalidRequest(f"Invalid {title}: {problems[0]}", problems=problems)
    listing = "".join(f"\n  - {problem}" for problem in problems)
    return InvalidRequest(f"Invalid {title}, {len(problems)} problems:{listing}", problems=problems)


def _is_of_one_field(details: ErrorDetails, model: type[BaseModel]) -> bool:
    """Whether something is wrong with a field, not with fields together or with one that is not there."""
    if details["type"] in ("value_error", "assertion_error"):
        # What stands there is an object: the rule is one between its fields.
        return _model_at(model, tuple(part for part in details["loc"] if not _is_union_branch(part))) is None
    return details["type"] != "missing"


def _problem(details: ErrorDetails, model: type[BaseModel], at: str) -> str:
    location = tuple(part for part in details["loc"] if not _is_union_branch(part))
    path = _path(location, at)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{path}: unknown field; {_suggestion(str(location[-1]), _model_at(model, location[:-1]))}"
    if kind == "missing":
        return f"{path}: this field is required"
    if kind in ("value_error", "assertion_error"):
        return f"{path}: {context.get('error', details['msg'])}" if path else str(context.get("error"))
    if kind == "enum":
        expected = context.get("expected")
        return f"{path}: must be one of {expected}{_meant(details.get('input'), expected)}"
    if kind == "string_type":
        return f"{path}: must be a string (put quotes around it)"
    return f"{path}: {details['msg'][:1].lower()}{details['msg'][1:]}"


def _suggestion(written: str, owner: type[BaseModel] | None) -> str:
    fields = owner.model_fields if owner else {}
    # In the spelling that was used: a name in snake_case gets an answer in snake_case.
    pythonic = written[:1].islower()
    known = [name if pythonic else field.alias or name for name, field in fields.items()]
    import difflib

    close = difflib.get_close_matches(_plain(written), [_plain(name) for name in known], n=1, cutoff=0.6)
    if close:
        return f"did you mean {next(name for name in known if _plain(name) == close[0])}?"
    return f"known fields: {', '.join(known)}" if known else "this object has no fields"


def _meant(written: object, expected: object) -> str:
    """Which of some values was meant, such as ``JOB_SUCCEED`` by ``JobSucceed``, which Tencent's user guide writes."""
    values = str(expected).replace(" or ", ", ").replace("'", "").split(", ")
    close = next((value for value in values if _plain(value) == _plain(str(written))), None)
    return f"; did you mean {close}?" if close else ""


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


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
