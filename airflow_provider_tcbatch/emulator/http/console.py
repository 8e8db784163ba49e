"""Read-only pages at ``/console``, in the place of Tencent's console: jobs, their instances, what these printed.

Made on the server, without scripts; all text is escaped. What jobs print may be nobody else's business, and other users
of this machine reach this port too: so the addresses carry a key, which the ready line and the Airflow connection have.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import html
import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from airflow_provider_tcbatch.emulator import files
from airflow_provider_tcbatch.emulator.batch.envs import views as env_views
from airflow_provider_tcbatch.emulator.batch.jobs import views
from airflow_provider_tcbatch.emulator.batch.jobs.entities import SUCCEED, Instance, Job
from airflow_provider_tcbatch.emulator.errors import CosError
from airflow_provider_tcbatch.emulator.host import Host
from airflow_provider_tcbatch.emulator.ids import iso
from airflow_provider_tcbatch.emulator.services import Services

#: Rows of a table, and bytes of a stream, that a page shows at most.
ROWS = 200
OUTPUT_BYTES = 64 * 1024

_STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.2em .6em;text-align:left;vertical-align:top}"
    "pre{background:#f4f4f4;padding:.6em;white-space:pre-wrap;overflow-wrap:anywhere}"
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

#: Fields of requests that hold secrets.
_SECRET = frozenset({"Password", "SecretKey"})


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def console_key(control_token: str) -> str:
    """What the pages are asked for with; it opens nothing else."""
    return hmac.new(control_token.encode(), b"console", hashlib.sha256).hexdigest()[:32]


def addresses(endpoint: str, control_token: str) -> dict[str, str]:
    """Where the pages are, as an Airflow connection's fields have it, and where they begin (``console``).

    :param endpoint: URL of the API port.
    :param control_token: the emulator's.
    """
    key = console_key(control_token)
    return {
        "console": f"{endpoint}/console?key={key}",
        "console_url": f"{endpoint}/console/jobs/{{job_id}}?key={key}",
        "console_env_url": f"{endpoint}/console/envs/{{env_id}}?key={key}",
        "console_template_url": f"{endpoint}/console/templates/{{task_template_id}}?key={key}",
        "console_cos_url": f"{endpoint}/console/cos?bucket={{bucket}}&path={{path}}&key={key}",
    }


async def jobs(services: Services, request: Request) -> Response:
    """GET /console: the newest jobs first."""
    newest = list(services.batch.jobs.values())[: -ROWS - 1 : -1]
    rows = [
        (_link(services.host, f"jobs/{job.job_id}", job.job_id), job.name, job.state, _counts(job), iso(job.created_at))
        for job in newest
    ]
    return _page(
        services.host,
        request,
        "Jobs",
        _table(("Job", "Name", "State", "Instances", "Created"), rows, len(services.batch.jobs)),
    )


async def job(services: Services, request: Request) -> Response:
    """GET /console/jobs/{job_id}: its tasks, and its instances, those first that did not succeed."""
    host = services.host
    found = services.batch.jobs.get(request.path_params["job_id"])
    if found is None:
        return _missing(host, request, f"There is no job {request.path_params['job_id']}; it may have been deleted.")
    detail = views.job_detail(found, host.settings)
    facts = [(name, detail[name]) for name in ("JobName", "JobState", "StateReason", "CreateTime", "EndTime", "Zone")]
    tasks = [
        (task.name, task.state, len(task.instances), task.counts[SUCCEED]) for task in list(found.tasks.values())[:ROWS]
    ]
    instances, total = _instances(found)
    rows = []
    for instance in instances:
        row = views.instance_row(instance, host.settings)
        path = f"jobs/{found.job_id}/output"
        output = _link(host, path, "output", task=instance.task.name, instance=str(instance.index))
        columns = ("TaskInstanceState", "ExitCode", "StateReason", "ComputeNodeInstanceId", "RunningTime", "EndTime")
        rows.append((instance.task.name, instance.index, *(row[name] for name in columns), output))
    names = ("Task", "Instance", "State", "Exit code", "Reason", "Machine", "Started", "Ended", "")
    return _page(
        host,
        request,
        f"Job {found.job_id}",
        _table(("", ""), facts),
        _title("Tasks"),
        _table(("Task", "State", "Instances", "Succeeded"), tasks, len(found.tasks)),
        _title("Instances"),
        _table(names, rows, total),
    )


async def output(services: Services, request: Request) -> Response:
    """GET /console/jobs/{job_id}/output?task=…&instance=…: the end of what an instance printed."""
    host = services.host
    found = services.batch.jobs.get(request.path_params["job_id"])
    task = None if found is None else found.tasks.get(request.query_params.get("task", ""))
    index = request.query_params.get("instance", "")
    number = int(index) if index.isascii() and index.isdigit() and len(index) < 10 else -1
    if found is None or task is None or not 0 <= number < len(task.instances):
        return _missing(host, request, "There is no such instance; its job may have been deleted.")
    instance = task.instances[number]
    texts = await asyncio.to_thread(_output_of, instance)
    back = _link(host, f"jobs/{found.job_id}", f"Job {found.job_id}")
    parts = [part for name, text in texts.items() for part in (_title(name), _pre(text))]
    return _page(host, request, f"Task {task.name!r} instance {number} ({instance.state})", back, *parts)


async def env(services: Services, request: Request) -> Response:
    """GET /console/envs/{env_id}."""
    env_id = request.path_params["env_id"]
    found = services.batch.envs.get(env_id)
    if found is None:
        return _missing(services.host, request, f"There is no compute environment {env_id}; it may have been deleted.")
    detail = env_views.env_row(found)
    facts = [(name, _json(detail[name])) for name in ("EnvName", "DesiredComputeNodeCount", "NextAction", "CreateTime")]
    nodes = [
        (node.node_id, node.state, node.instance_id, iso(node.created_at)) for node in list(found.nodes.values())[:ROWS]
    ]
    return _page(
        services.host,
        request,
        f"Compute environment {env_id}",
        _table(("", ""), facts),
        _title("Nodes"),
        _table(("Node", "State", "Machine", "Created"), nodes, len(found.nodes)),
    )


async def template(services: Services, request: Request) -> Response:
    """GET /console/templates/{template_id}: with stars for its secrets."""
    template_id = request.path_params["template_id"]
    found = services.batch.templates.get(template_id)
    if found is None:
        return _missing(services.host, request, f"There is no task template {template_id}; it may have been deleted.")
    facts = [("Name", found.name), ("Description", found.description), ("Created", iso(found.created_at))]
    shown = json.dumps(_without_secrets(found.task), indent=2, ensure_ascii=False)
    return _page(services.host, request, f"Task template {template_id}", _table(("", ""), facts), _pre(shown))


async def folder(services: Services, request: Request) -> Response:
    """GET /console/cos?bucket=…&path=…: the objects in a folder; they are read with COS itself."""
    bucket, path = request.query_params.get("bucket", ""), request.query_params.get("path", "")
    try:
        objects, total = await asyncio.to_thread(services.cos.store.listing, bucket, path, ROWS)
    except CosError:
        return _missing(services.host, request, f"There is no bucket {bucket}.")
    return _page(services.host, request, f"cos://{bucket}/{path}", _table(("Object", "Bytes"), objects, total))


# -- parts of pages ------------------------------------------------------------------------------------


def _page(host: Host, request: Request, title: str, *parts: _Html, status: int = 200) -> Response:
    given = request.query_params.get("key", "")
    if not hmac.compare_digest(given.encode(), console_key(host.identity.control_token).encode()):
        title, status = "No key", 403
        parts = (_text("These pages are opened with the address that the ready line has as console: it holds a key."),)
        home = _Html("")
    else:
        home = _link(host, "", "All jobs")
    body = "\n".join((home, _Html(f"<h1>{html.escape(title)}</h1>"), *parts))
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )
    return Response(text.encode("utf-8", "replace"), status, headers=_HEADERS, media_type="text/html; charset=utf-8")


def _missing(host: Host, request: Request, words: str) -> Response:
    return _page(host, request, "Not found", _text(words), status=404)


def _text(text: str) -> _Html:
    return _Html(f"<p>{html.escape(text)}</p>")


def _title(text: str) -> _Html:
    return _Html(f"<h2>{html.escape(text)}</h2>")


def _pre(text: str) -> _Html:
    return _Html(f"<pre>{html.escape(text)}</pre>")


def _link(host: Host, path: str, text: str, **query: str) -> _Html:
    address = f"/console/{quote(path)}".rstrip("/")
    query["key"] = console_key(host.identity.control_token)
    return _Html(f'<a href="{html.escape(f"{address}?{urlencode(query)}")}">{html.escape(text)}</a>')


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]], total: int | None = None) -> _Html:
    """A table.

    :param total: how many rows there are, if not all of them are shown.
    """
    rows = list(rows)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names) if any(names) else ""
    lines = ["".join(f"<td>{_cell(value)}</td>" for value in row) for row in rows]
    table = f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
    more = "" if total is None or total <= len(rows) else _text(f"{total - len(rows):,} more are not shown")
    return _Html(table + more)


def _cell(value: Any) -> str:
    return value if isinstance(value, _Html) else "" if value is None else html.escape(str(value))


def _counts(job: Job) -> str:
    counts = views.counts_of_instances(job)
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count > 0)


def _instances(job: Job) -> tuple[list[Instance], int]:
    """The instances that a page shows, those first that have not succeeded, and how many there are."""
    total = sum(len(task.instances) for task in job.tasks.values())
    shown: list[Instance] = []
    for succeeded in (False, True):
        for task in job.tasks.values():
            if len(shown) >= ROWS:
                break
            fitting = (instance for instance in task.instances if (instance.state == SUCCEED) is succeeded)
            shown += [instance for instance, _ in zip(fitting, range(ROWS - len(shown)), strict=False)]
    return shown, total


def _output_of(instance: Instance) -> dict[str, str]:
    """The end of both streams of an instance's newest attempt."""
    texts = {}
    for name in ("stdout", "stderr"):
        data, left = b"", 0
        if instance.folder is not None:
            try:
                with files.open_to_read(instance.folder / name) as file:
                    left = max(0, file.seek(0, 2) - OUTPUT_BYTES)
                    file.seek(left)
                    data = file.read(OUTPUT_BYTES)
            except OSError:
                data = b""  # the next attempt may be about to make its files
        begin = f"[{left:,} bytes before this are not shown]\n" if left else ""
        texts[name] = begin + _visible(data.decode("utf-8", "replace"))
    return texts


def _visible(text: str) -> str:
    """The same text with control characters shown, as HTML takes none of them."""
    return "".join(sign if (sign >= " " and sign != "\x7f") or sign in "\n\t" else repr(sign)[1:-1] for sign in text)


def _json(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "***" if name in _SECRET else _without_secrets(item) for name, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
