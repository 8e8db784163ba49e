"""Errors that travel to a client in the shape its service documents."""

from __future__ import annotations


class ApiError(Exception):
    """A refusal by an API 3.0 service (``batch`` or ``tdmq``).

    :param code: the documented error code, for instance ``ResourceNotFound.Job``.
    :param message: what is wrong, for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class CmqError(Exception):
    """A refusal by the CMQ data plane.

    :param code: the documented return code, for instance 7000.
    :param module: the five-digit module code that the service puts in front of the text.
    :param text: what is wrong, for a person.
    :param extra: further members of the answer, such as ``errorList`` of a batch delete.
    """

    def __init__(self, code: int, module: int, text: str, **extra: object) -> None:
        super().__init__(f"{code}: ({module}){text}")
        self.code = code
        self.message = f"({module}){text}"
        self.extra = extra


class CosError(Exception):
    """A refusal by the object store, answered as COS error XML.

    :param status: HTTP status.
    :param code: COS error code, for instance ``NoSuchBucket``.
    :param message: what is wrong, for a person.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
