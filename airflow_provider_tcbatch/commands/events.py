"""``airflow tcbatch events``: the chain by which Batch's events come to Airflow, set up and checked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from airflow.exceptions import AirflowException  # type: ignore[attr-defined]
from airflow.utils import cli as cli_utils
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from airflow_provider_tcbatch.commands.connected import connected
from airflow_provider_tcbatch.commands.table import show
from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.execution.event_delivery.chain import EventChain, row_of
from airflow_provider_tcbatch.execution.event_delivery.check import EventsCheck
from airflow_provider_tcbatch.execution.event_delivery.setup import EventsSetup
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.policies.event.delivery_chain import FAULTS, State, Step

__all__ = ["check", "setup"]

ChainT = TypeVar("ChainT", bound=EventChain)


@cli_utils.action_cli(check_db=False)  # type: ignore[no-untyped-call,untyped-decorator]
@cli_utils.suppress_logs_and_warning
@providers_configuration_loaded
def setup(args: argparse.Namespace) -> None:
    """Make what does not exist.

    :param args: ``conn_id``, ``region``, ``topic``, ``asset_queue``, ``base_queue``, ``dry_run``, ``output``.
    :raises SystemExit: with 1 if something could not be made; with a message, if the connection can't be read.
    """
    steps = _steps(args, EventsSetup, lambda chain: chain.setup(dry_run=args.dry_run))
    _show(steps, args.output)
    made = sum(step.state in (State.MADE, State.CHANGED) for step in steps)
    rest = (
        "nothing was made, it was a dry run" if args.dry_run else f"{made} made or changed; events check tells the rest"
    )
    print(f"{_count(steps)}; {rest}", file=sys.stderr)
    _exit(steps)


@cli_utils.action_cli(check_db=False)  # type: ignore[no-untyped-call,untyped-decorator]
@cli_utils.suppress_logs_and_warning
@providers_configuration_loaded
def check(args: argparse.Namespace) -> None:
    """Check everything, and send a test message.

    :param args: ``conn_id``, ``region``, ``topic``, ``asset_queue``, ``base_queue``, ``through``, ``timeout``,
        ``output``.
    :raises SystemExit: with 1 if something is missing or could not be checked; with a message, if the connection can't
        be read.
    """
    steps = _steps(args, EventsCheck, lambda chain: chain.check(through=args.through or (), patience=args.timeout))
    _show(steps, args.output)
    print(_count(steps), file=sys.stderr)
    _exit(steps)


def _steps(args: argparse.Namespace, kind: type[ChainT], work: Callable[[ChainT], Sequence[Step]]) -> Sequence[Step]:
    try:
        hook = connected(CmqHook(args.conn_id, args.region))
        chain = kind(hook, topic=args.topic, asset_queue=args.asset_queue, base_queue=args.base_queue)
        return work(chain)
    except (TCBatchError, AirflowException) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error


def _show(steps: Sequence[Step], output: str) -> None:
    show([row_of(step) for step in steps], output)


def _count(steps: Sequence[Step]) -> str:
    states = [step.state for step in steps]
    counted = ((State.MISSING, "missing"), (State.FAILED, "failed"), (State.WARNING, "warnings"), (State.OK, "ok"))
    return ", ".join(f"{states.count(state)} {word}" for state, word in counted)


def _exit(steps: Sequence[Step]) -> None:
    if any(step.state in FAULTS for step in steps):
        raise SystemExit(1)
