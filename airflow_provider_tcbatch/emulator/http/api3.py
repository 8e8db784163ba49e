"""API 3.0: ``POST /`` for the services ``batch`` and ``tdmq``."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from airflow_provider_tcbatch.emulator import trouble
from airflow_provider_tcbatch.emulator.batch.actions import HANDLERS as BATCH
from airflow_provider_tcbatch.emulator.batch.empty_values import with_empty_values
from airflow_provider_tcbatch.emulator.batch.jobs.scheduler import forget_old_jobs
from airflow_provider_tcbatch.emulator.batch.service import BatchService
from airflow_provider_tcbatch.emulator.cmq.actions import HANDLERS as TDMQ
from airflow_provider_tcbatch.emulator.cmq.service import CmqService
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.faults import Fault
from airflow_provider_tcbatch.emulator.host import Host
from airflow_provider_tcbatch.emulator.http.body import TooLarge, read_body
from airflow_provider_tcbatch.emulator.ids import new_request_id
from airflow_provider_tcbatch.emulator.journal import job_ids_of
from airflow_provider_tcbatch.emulator.schema import printable, schema
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.emulator.signing import tc3
from airflow_provider_tcbatch.emulator.signing.access import TokenProblem

log = logging.getLogger("tcbatch_emulator.api")

Handler = Callable[[Any, dict[str, Any]], dict[str, Any]]
#: Version, actions and what does them, by the name of a service.
SERVICES: dict[str, tuple[str, Mapping[str, Handler]]] = {"batch": ("2017-03-12", BATCH), "tdmq": ("2020-02-17", TDMQ)}


def service_of(services: Services, name: str) -> BatchService | CmqService:
    """What the actions of a service are about."""
    return services.batch if name == "batch" else services.cmq


async def answer(services: Services, request: Request) -> Response:
    """Answer one call, or do with it what a fault says."""
    host = services.host
    service, action = _claimed(request)

    def refuse(fault: Fault) -> Response:
        throttled = fault.kind == "throttle"
        code = fault.code or ("RequestLimitExceeded" if throttled else "InternalError")
        message = "Your current request rate exceeds the limit." if throttled else "An internal error has occurred."
        request_id = new_request_id()
        host.calls.add(host.server_time(), service, action, (), code, request_id)
        return _response({"Error": {"Code": code, "Message": message}, "RequestId": request_id})

    def note(code: str) -> None:
        host.calls.add(host.server_time(), service, action, (), code, "")

    return await trouble.answer(
        host.faults.request(service, action), lambda skew: _answer(services, request, skew), refuse, note
    )


def _claimed(request: Request) -> tuple[str, str]:
    """Service and action that an unchecked request says it is about."""
    with contextlib.suppress(ApiError):
        service = tc3.parse(request.headers.get("authorization")).service
        if service in SERVICES and request.headers.get("x-tc-action", "") in SERVICES[service][1]:
            return service, request.headers["x-tc-action"]
    return "api", "-"


async def _answer(services: Services, request: Request, skew: float) -> Response:
    """Answer one call; every refusal is HTTP 200 with an Error object, as the service does it."""
    host = services.host
    request_id = new_request_id()
    service, action, code = "api", "", "OK"
    params: dict[str, Any] = {}
    result: dict[str, Any]
    try:
        authorization = await _authenticate(host, request, skew)
        service = authorization.service
        action, params = await _parse(host, request, service)
        _limit_rate(host, service, action, authorization.secret_id)
        if host.settings.job_retention_seconds:
            forget_old_jobs(services.batch)
        handler = SERVICES[service][1][action]
        answered = handler(service_of(services, service), params)
        result = schema(service).complete(f"{action}Response", {**answered, "RequestId": request_id})
        if service == "batch":
            result = with_empty_values(result, host.settings.empty_values)
    except ApiError as error:
        code = error.code
        result = {"Error": {"Code": error.code, "Message": error.message}, "RequestId": request_id}
    except ClientDisconnect:
        raise
    except Exception:
        log.exception("%s failed", action)
        code = "InternalError"
        result = {
            "Error": {"Code": code, "Message": "An internal error has occurred, see the emulator's log."},
            "RequestId": request_id,
        }
    name = action or printable(request.headers.get("x-tc-action", "-"), 60)
    host.calls.add(host.server_time(), service, name, job_ids_of(params, result), code, request_id)
    log.debug("%s.%s %s", service, name, code)
    return _response(result)


def _response(result: dict[str, Any]) -> Response:
    # The SDK recognises an error only when this header is exactly so, without a charset.
    return Response(json.dumps({"Response": result}).encode(), headers={"content-type": "application/json"})


def _limit_rate(host: Host, service: str, action: str, secret_id: str) -> None:
    if host.settings.rate_limits != "off":
        limit = host.rates.admit(
            host.settings.rate_limits, service, action, secret_id, host.settings.rate_limit_unlisted
        )
        if limit is not None:
            raise ApiError(
                "RequestLimitExceeded",
                f"Your current request rate exceeds the limit of `{limit}` per second of {action}.",
            )


async def _authenticate(host: Host, request: Request, skew: float) -> tc3.Authorization:
    authorization = tc3.parse(request.headers.get("authorization"))
    try:
        body = await read_body(request, host.settings.max_request_bytes)
    except TooLarge:
        raise ApiError(
            "RequestSizeLimitExceeded", f"The request is larger than {host.settings.max_request_bytes} bytes."
        ) from None
    tc3.verify(
        authorization,
        keys=host.access.keys,
        headers=request.headers,
        body=body,
        now=host.server_time() + skew,
        window=host.settings.timestamp_window_seconds,
    )
    try:
        host.access.check_token(authorization.secret_id, request.headers.get("x-tc-token"), host.server_time())
    except TokenProblem as problem:
        raise ApiError("AuthFailure.TokenFailure", f"The token is not valid: {problem}.") from None
    request.state.body = body
    return authorization


async def _parse(host: Host, request: Request, service: str) -> tuple[str, dict[str, Any]]:
    if service not in SERVICES:
        raise ApiError("NoSuchProduct", f"The emulator has no service {service!r}, only {', '.join(SERVICES)}.")
    version, handlers = SERVICES[service]
    action = request.headers.get("x-tc-action", "")
    if not action:
        raise ApiError("MissingParameter", "The request is missing the X-TC-Action header.")
    if request.headers.get("x-tc-version") != version:
        raise ApiError("NoSuchVersion", f"The version of {service} is {version}.")
    if action not in handlers:
        known = schema(service).has(f"{action}Request") if action.isidentifier() else False
        reason = "is not emulated" if known else "does not exist"
        raise ApiError("InvalidAction", f"The action {printable(action, 60)!r} {reason}.")
    region = request.headers.get("x-tc-region", "")
    if not region:
        raise ApiError("MissingParameter", "The request is missing the X-TC-Region header.")
    if region != host.identity.region:
        raise ApiError(
            "UnsupportedRegion", f"This emulator is the region {host.identity.region}, not {printable(region, 60)}."
        )
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise ApiError("UnsupportedProtocol", "The emulator accepts application/json requests only.")
    try:
        # Infinity and NaN pass here: the schema knows which parameter they stand for.
        value = json.loads(request.state.body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError("InvalidParameter", f"The request is no valid JSON: {printable(str(error))}") from None
    return action, schema(service).check(f"{action}Request", value, lenient=host.settings.lenient_types)
