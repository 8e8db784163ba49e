"""The control API below ``/_emulator/``: what tests and people ask the emulator itself."""

from __future__ import annotations

import json
import math
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse

from airflow_provider_tcbatch.emulator.batch.jobs.entities import Job
from airflow_provider_tcbatch.emulator.faults import FaultError
from airflow_provider_tcbatch.emulator.http.body import TooLarge, read_body
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.emulator.settings import SettingsError

#: Settings that run a program on this machine as the emulator's user: whoever reaches its port has no say in them.
_AT_START = frozenset({"docker_command"})


def _job_view(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "name": job.name,
        "state": job.state,
        "next_action": job.next_action,
        "client_token": job.client_token,
        "created_at": job.created_at,
        "ended_at": job.ended_at,
    }


def _no_job(request: Request) -> JSONResponse:
    return JSONResponse({"error": f"there is no job {request.path_params['job_id']}"}, 404)


async def health(services: Services, request: Request) -> JSONResponse:
    """GET /_emulator/health."""
    return JSONResponse(
        {
            "status": "ok",
            "jobs": len(services.batch.jobs),
            "instances_running": services.batch.capacity.used,
            "time": services.host.now(),
        }
    )


async def jobs(services: Services, request: Request) -> JSONResponse:
    """GET /_emulator/jobs."""
    return JSONResponse({"jobs": [_job_view(job) for job in services.batch.jobs.values()]})


async def timeline(services: Services, request: Request) -> JSONResponse:
    """GET /_emulator/jobs/{job_id}/timeline."""
    job = services.batch.jobs.get(request.path_params["job_id"])
    return JSONResponse(job.timeline.as_json(job.job_id)) if job else _no_job(request)


async def wait(services: Services, request: Request) -> JSONResponse:
    """GET /_emulator/jobs/{job_id}/wait?timeout=30: answers when the job has ended, or the time is up."""
    job = services.batch.jobs.get(request.path_params["job_id"])
    if job is None:
        return _no_job(request)
    try:
        timeout = min(float(request.query_params.get("timeout", "30")), 3600.0)
        if math.isnan(timeout):
            raise ValueError("not a number")
    except ValueError:
        return JSONResponse({"error": "timeout must be a number of seconds"}, 400)
    with anyio.move_on_after(timeout):
        await job.ended.wait()
    return JSONResponse(_job_view(job))


async def calls(services: Services, request: Request) -> JSONResponse:
    """GET /_emulator/calls."""
    return JSONResponse(services.host.calls.as_json())


async def reset(services: Services, request: Request) -> JSONResponse:
    """POST /_emulator/reset."""
    await services.reset()
    return JSONResponse({"status": "ok"})


async def faults(services: Services, request: Request) -> JSONResponse:
    """GET, POST (one fault) and DELETE (all) /_emulator/faults."""
    if request.method == "POST":
        try:
            members = json.loads(await read_body(request, 65_536))
            if not isinstance(members, dict) or not isinstance(members.get("kind"), str):
                raise ValueError("the body must be a JSON object with a kind")
            fault = services.add_fault(members.pop("kind"), **members)
            return JSONResponse(fault.model_dump(mode="json"), 201)
        except FaultError as error:
            details = [{"member": member, "problem": str(error)} for member in error.members]
            return JSONResponse({"error": f"invalid fault: {error}", "details": details}, 400)
        except (ValueError, TooLarge, RecursionError) as error:
            return JSONResponse({"error": f"invalid body: {error}"}, 400)
    if request.method == "DELETE":
        services.host.faults.clear()
    return JSONResponse({"faults": [fault.model_dump(mode="json") for fault in services.host.faults.all()]})


async def remove_fault(services: Services, request: Request) -> JSONResponse:
    """DELETE /_emulator/faults/{fault_id}."""
    fault_id = request.path_params["fault_id"]
    if not services.host.faults.remove(fault_id):
        return JSONResponse({"error": f"there is no fault {fault_id}"}, 404)
    return JSONResponse({"status": "ok"})


async def settings(services: Services, request: Request) -> JSONResponse:
    """GET and PATCH /_emulator/settings."""
    if request.method == "PATCH":
        try:
            changes = json.loads(await read_body(request, 65_536))
            if not isinstance(changes, dict):
                raise ValueError("the body must be a JSON object")
            if at_start := sorted(_AT_START & changes.keys()):
                raise ValueError(f"{', '.join(at_start)} is set at the start only (--set)")
            services.change_settings(changes)
        except SettingsError as error:
            details = [{"setting": name, "problem": problem} for name, problem in error.problems]
            return JSONResponse({"error": f"invalid settings: {error}", "details": details}, 400)
        except (ValueError, TooLarge, RecursionError) as error:
            return JSONResponse({"error": f"invalid body: {error}"}, 400)
    return JSONResponse(services.host.settings.model_dump(mode="json"))
