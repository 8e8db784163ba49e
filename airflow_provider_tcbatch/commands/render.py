"""``airflow tcbatch render``: the request that a task would send."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
import pendulum
from airflow.exceptions import AirflowException  # type: ignore[attr-defined]
from airflow.utils import cli as cli_utils
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from airflow_provider_tcbatch.exceptions import TCBatchError

__all__ = ["render"]

#: Lines of an import error that are shown.
_LINES = 12


@cli_utils.action_cli(check_db=False)  # type: ignore[no-untyped-call,untyped-decorator]
@cli_utils.suppress_logs_and_warning
@providers_configuration_loaded
def render(args: argparse.Namespace) -> None:
    """Print the SubmitJob request of a task.

    :param args: ``dag_id``, ``task_id``, ``run_id``, ``logical_date``, ``conf``, ``map_index``, ``bundle_name``.
    :raises SystemExit: with a message, if there is no request to show.
    """
    # What DAG files and Airflow print is not part of the request.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            text = request_of(args)
        except (TCBatchError, AirflowException, jinja2.TemplateError) as error:
            raise SystemExit(f"{type(error).__name__}: {error}") from error
    print(text)


def request_of(args: argparse.Namespace) -> str:
    """The request as JSON.

    :param args: see :func:`render`.
    """
    if args.run_id and args.logical_date:
        raise SystemExit("Give --run-id or --logical-date, not both")
    dag = _dag(args)
    if not dag.has_task(args.task_id):
        raise SystemExit(f"DAG {args.dag_id!r} has no task {args.task_id!r}; it has {', '.join(sorted(dag.task_ids))}")
    task = dag.get_task(args.task_id)
    kind = task.operator_class
    mapped = task.is_mapped or next(task.iter_mapped_task_groups(), None) is not None
    if not hasattr(kind, "render_request"):
        raise SystemExit(f"Task {args.task_id!r} of DAG {args.dag_id!r} is a {kind.__name__}: it submits no Batch job")
    if mapped != (args.map_index >= 0):
        raise SystemExit(f"Task {args.task_id!r} is {'' if mapped else 'not '}mapped: --map-index is {args.map_index}")
    _check_index(args)
    context, complete = _context(dag, task, args)
    with _airflow(dag), _without_a_run(complete, mapped=mapped):
        task.render_template_fields(context)
        # Rendering a mapped task puts the operator that it stands for in its place.
        wire = context["task"].render_request(context)
        return _masked(json.dumps(wire, indent=2, ensure_ascii=False))


@contextlib.contextmanager
def _without_a_run(complete: bool, *, mapped: bool) -> Iterator[None]:
    """Say that a run is needed where a request can't be made without what other tasks return.

    :param complete: whether all is there.
    :param mapped: whether the task is mapped: Airflow finds no value to map over, in whatever way.
    :raises SystemExit: in the place of the error.
    """
    try:
        yield
    except (TCBatchError, LookupError, TypeError, ValueError) as error:
        if complete or not (mapped or isinstance(error, TCBatchError)):
            raise
        raise SystemExit(
            "The request can't be made without what other tasks return, and there is no run yet: name one in which "
            f"they have ended, with --run-id. ({type(error).__name__}: {error})"
        ) from None


def _dag(args: argparse.Namespace) -> Any:
    try:
        return cli_utils.get_bagged_dag(args.bundle_name, args.dag_id)
    except AirflowException as error:
        raise SystemExit("\n\n".join([str(error), *_import_errors(args.dag_id)])) from error


def _check_index(args: argparse.Namespace) -> None:
    """Refuse an index that a mapped task does not have, as far as that is known before the run."""
    from airflow.models.expandinput import NotFullyPopulated

    if args.map_index < 0:
        return
    task: Any = cli_utils.get_db_dag(args.bundle_name, args.dag_id).get_task(args.task_id)
    with contextlib.suppress(NotFullyPopulated):
        count = task.get_parse_time_mapped_ti_count()
        if args.map_index >= count:
            raise SystemExit(f"Task {args.task_id!r} has no map index {args.map_index}: it has {count} instances")


def _import_errors(dag_id: str) -> Iterator[str]:
    """Why the DAG's file can't be read, as Airflow has noted it just now; of other files only that they can't.

    :param dag_id: the DAG, which is looked for in the text of the files.
    """
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        others = []
        for error in session.scalars(select(ParseImportError)):
            if _names(error, dag_id):
                yield "\n".join([f"{error.filename}:", *(error.stacktrace or "").strip().splitlines()[-_LINES:]])
            else:
                others.append(str(error.filename))
    if others:
        yield f"Other files that can't be read (see 'airflow dags list-import-errors'): {', '.join(sorted(others))}"


def _names(error: Any, dag_id: str) -> bool:
    """Whether the file of an import error may hold the DAG."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    path = Path(error.filename)
    if not path.is_absolute():
        bundles: Any = DagBundlesManager()  # type: ignore[no-untyped-call]
        path = bundles.get_bundle(error.bundle_name).path / path
    with contextlib.suppress(OSError, UnicodeError):
        return dag_id in path.read_text()
    return True


def _context(dag: Any, task: Any, args: argparse.Namespace) -> tuple[Any, bool]:
    """Context of a first try of the task, as a worker would have it, and whether nothing of other tasks is missing."""
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import TIRunContext
    from airflow.sdk import XComArg
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    run, exists = _run(args)
    fields = [getattr(task, name, None) for name in task.template_fields]
    fields += [getattr(task, name, None) for name in ("partial_kwargs", "expand_input")]
    complete = exists or not any(True for _ in XComArg.iter_xcom_references(fields))
    if not complete:
        print("There is no run yet: what the task takes from other tasks is left out", file=sys.stderr)
    server = TIRunContext(
        dag_run=run,
        max_tries=task.retries or 0,
        variables=[],
        connections=[],
        xcom_keys_to_clear=[],
    )
    ti = RuntimeTaskInstance.model_construct(  # type: ignore[call-arg] # what no template asks for
        id=uuid.uuid4(),
        dag_id=dag.dag_id,
        task_id=task.task_id,
        run_id=run.run_id,
        map_index=args.map_index,
        try_number=1,
        max_tries=task.retries or 0,
        start_date=datetime.now(timezone.utc),
        task=task,
        _ti_context_from_server=server,
    )
    return ti.get_template_context(), complete


def _run(args: argparse.Namespace) -> tuple[Any, bool]:
    """The run, and whether it exists: if not, it is one as a user would start it."""
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun as Run
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType
    from sqlalchemy import select

    conf = _conf(args)
    query = select(DagRun).where(DagRun.dag_id == args.dag_id)
    with create_session() as session:
        found = None
        if args.run_id:
            found = session.scalar(query.where(DagRun.run_id == args.run_id))
        elif args.logical_date:
            found = session.scalar(query.where(DagRun.logical_date == args.logical_date))
        if found is not None:
            run = Run.model_validate(found, from_attributes=True)
            return (run if conf is None else run.model_copy(update={"conf": conf})), True
    if args.run_id:
        raise SystemExit(
            f"DAG {args.dag_id!r} has no run {args.run_id!r}; for one that does not exist, leave --run-id out"
        )
    now = pendulum.now("UTC")
    logical_date = pendulum.instance(args.logical_date) if args.logical_date else now
    interval = cli_utils.get_db_dag(args.bundle_name, args.dag_id).timetable.infer_manual_data_interval(
        run_after=logical_date
    )
    # What another version of Airflow wants to know besides, is not known.
    unknown = {name: None for name, field in Run.model_fields.items() if field.is_required()}
    known = {
        "dag_id": args.dag_id,
        "run_id": f"manual__{logical_date.isoformat()}",
        "logical_date": logical_date,
        "data_interval_start": interval.start,
        "data_interval_end": interval.end,
        "run_after": interval.end,
        "start_date": now,
        "run_type": DagRunType.MANUAL,
        "state": "running",
        "conf": conf or {},
        "consumed_asset_events": [],
    }
    return Run.model_validate({**unknown, **known}), False


def _conf(args: argparse.Namespace) -> dict[str, Any] | None:
    if not args.conf:
        return None
    try:
        conf = json.loads(args.conf)
    except ValueError as error:
        raise SystemExit(f"--conf is not JSON: {error}") from None
    if not isinstance(conf, dict):
        raise SystemExit("--conf is not a JSON object")
    return conf


@contextlib.contextmanager
def _airflow(dag: Any) -> Iterator[None]:
    """Connections, variables and XComs as a worker sees them: from this Airflow's own database and backends."""
    import psutil
    import structlog
    from airflow.sdk.execution_time.supervisor import (
        InProcessSupervisorComms,
        InProcessTestSupervisor,
        set_supervisor_comms,
    )

    supervisor = InProcessTestSupervisor(
        id=uuid.uuid4(),
        pid=os.getpid(),
        process=psutil.Process(),
        process_log=structlog.get_logger(logger_name="task"),
        client=InProcessTestSupervisor._api_client(dag),  # type: ignore[no-untyped-call]
    )
    supervisor.comms = InProcessSupervisorComms(supervisor=supervisor)
    with set_supervisor_comms(supervisor.comms):
        yield


def _masked(text: str) -> str:
    """Without secrets that a template brought in: Airflow knows those of connections and variables."""
    from airflow.sdk._shared.secrets_masker import redact

    return str(redact(text))
