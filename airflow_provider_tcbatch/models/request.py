"""What all API requests and answers have in common.

``client.call(DescribeJob(job_id=...))`` returns a ``DescribeJobResult``: there is no second list of methods to keep in
step, neither for sync and async nor for client and hook.
"""

from collections.abc import Mapping, Sequence
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AfterValidator, Field

from airflow_provider_tcbatch.models.base import ApiModel

__all__ = ["PAGE", "Action", "ClientToken", "Filter", "Filters", "Page", "Result", "filters_of", "portions"]


class Result(ApiModel):
    """Base of all answers.

    :param request_id: what Tencent's support asks for.
    """

    request_id: str | None = None


ResultT = TypeVar("ResultT", bound=Result)


class Action(ApiModel, Generic[ResultT]):
    """Base of all requests.

    :cvar service: product in the API's host name and signature.
    :cvar version: version of the product's API.
    :cvar repeatable: whether sending the request twice does no more than sending it once. The second answer may still
        be an error ("does not exist" after a deletion whose first answer was lost).
    """

    service: ClassVar[str] = "batch"
    version: ClassVar[str] = "2017-03-12"
    repeatable: ClassVar[bool] = True

    @classmethod
    def name(cls) -> str:
        """Name of the action on the wire."""
        return cls.__name__

    if not TYPE_CHECKING:

        def __class_getitem__(cls, result: Any) -> Any:
            # Pydantic would make one more model for each answer, which takes as long as the action's own.
            return cls if isinstance(result, TypeVar) else GenericAlias(cls, result)

    @classmethod
    def result_type(cls) -> type[ResultT]:
        """Type of the answer: the argument that the class was parametrised with."""
        for base in cls.__mro__:
            for alias in vars(base).get("__orig_bases__", ()):
                if isinstance(alias, GenericAlias):
                    result: type[ResultT] = alias.__args__[0]
                    return result
        raise TypeError(f"{cls.__name__} does not name its result type: derive it from Action[...]")

    @property
    def may_repeat(self) -> bool:
        """Whether this very request may be sent again when its answer was lost."""
        return self.repeatable


class Filter(ApiModel):
    """A condition on a list: values are alternatives, several filters must all hold."""

    name: str
    values: list[str]


def _ascii(token: str) -> str:
    if not token.isascii():
        raise ValueError("must consist of ASCII characters")
    return token


#: Makes a write repeatable: the service carries out requests with the same token only once. How long it remembers a
#: token is not documented.
ClientToken = Annotated[str, Field(max_length=64), AfterValidator(_ascii)]

#: Where a page begins (0 is the first entry).
Page = Annotated[int, Field(ge=0)]


#: Most entities or ids on one page of a list, for all lists of Batch but instances.
PAGE = 100

#: Values by filter name: values are alternatives, several filters must all hold.
Filters = Mapping[str, Sequence[str]]


def filters_of(filters: Filters | None) -> list[Filter] | None:
    """Filters as the API takes them."""
    return [Filter(name=name, values=list(values)) for name, values in (filters or {}).items()] or None


def portions(ids: Sequence[str]) -> list[list[str]]:
    """Ids in portions that one request may hold."""
    return [list(ids[start : start + PAGE]) for start in range(0, len(ids), PAGE)]
