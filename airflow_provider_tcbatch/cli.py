"""``airflow tcbatch …`` on Airflow 3.3 and later, and the same as ``python -m airflow_provider_tcbatch.cli …`` on all.

Airflow reads this at each start of its command line, so it only says which commands there are; what they do stands in
:mod:`airflow_provider_tcbatch.commands`, and is imported when one is called.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from airflow.cli.cli_config import (
    ARG_BUNDLE_NAME,
    ARG_CONF,
    ARG_DAG_ID,
    ARG_LOGICAL_DATE,
    ARG_MAP_INDEX,
    ARG_OUTPUT,
    ARG_TASK_ID,
    ARG_VERBOSE,
    ARG_YES,
    ActionCommand,
    Arg,
    CLICommand,
    DefaultHelpParser,
    GroupCommand,
    lazy_load_command,
)
from rich.markup import escape

__all__ = ["get_cli_commands", "main"]

ARG_RUN_ID = Arg(("-r", "--run-id"), help="Id of a run that exists")  # type: ignore[no-untyped-call]


def _seconds(text: str) -> float:
    from airflow_provider_tcbatch.policies.backoff import LONGEST

    value = float(text)
    if not 0 <= value <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def _option(name: str, help: str, **settings: Any) -> Arg:
    # Airflow's help is read as markup: "[tcbatch]" would be taken for a style, and be gone.
    return Arg((f"--{name}",), help=escape(help), **settings)  # type: ignore[no-untyped-call]


ORPHAN_ARGS: tuple[Arg, ...] = (
    _option("end", "End the orphans; without it they are only listed", action="store_true"),
    _option("grace", "Seconds: what is younger is spared (default: 3600)", type=_seconds, default=3600.0),
    _option(
        "deployment",
        "Whose jobs and environments (default: [tcbatch] deployment_id). Where that is not set, --end needs it: "
        "'airflow', if no other Airflow uses the account",
    ),
    _option("conn-id", "Connection (default: tencentcloud_default)", default="tencentcloud_default"),
    _option("region", "Region (default: the connection's)"),
    _option("timeout", "Seconds for all of it to end (default: 600)", type=_seconds, default=600.0),
    _option("all", "List also what somebody owns, and why it is spared", action="store_true"),
    ARG_YES,
    ARG_OUTPUT,
    ARG_VERBOSE,
)

EVENT_ARGS: tuple[Arg, ...] = (
    _option("topic", "Topic (default: the connection's event_topic)"),
    _option("asset-queue", "Queue of asset watchers, if there is one"),
    _option("base-queue", "Durable queue that gives the topic a subscription (default: <topic>-base)"),
    _option("conn-id", "Connection (default: tencentcloud_default)", default="tencentcloud_default"),
    _option("region", "Region (default: the connection's)"),
)

COMMANDS: tuple[CLICommand, ...] = (
    ActionCommand(
        name="render",
        help="Print the SubmitJob request of a task; nothing is sent",
        description=(
            "Print, as JSON, the exact SubmitJob request that a task would send: rendered, checked, with the zone and "
            "the topic of its connection, and with secrets masked. Nothing is sent. The run need not exist: without "
            "--run-id and --logical-date it is one that would begin now."
        ),
        func=lazy_load_command("airflow_provider_tcbatch.commands.render.render"),
        args=(
            ARG_DAG_ID,
            ARG_TASK_ID,
            ARG_RUN_ID,
            ARG_LOGICAL_DATE,
            ARG_CONF,
            ARG_MAP_INDEX,
            ARG_BUNDLE_NAME,
            ARG_VERBOSE,
        ),
    ),
    ActionCommand(
        name="orphans",
        help="List, and with --end end, jobs and compute environments that nobody owns any more",
        description=(
            "List jobs and compute environments that carry this deployment's mark and that no live task instance owns. "
            "With --end the jobs are terminated, and the environments scaled to zero and deleted. What can't be told "
            "for sure is listed and left alone. Needs Airflow's database. Exit code: 0; 1 if something could not be "
            "listed or ended, or was not to be."
        ),
        func=lazy_load_command("airflow_provider_tcbatch.commands.orphans.orphans"),
        args=ORPHAN_ARGS,
    ),
    GroupCommand(
        name="events",
        help="Set up, and check, the chain by which Batch's events come to Airflow",
        subcommands=(
            ActionCommand(
                name="setup",
                help="Make topic, durable queues and subscriptions as far as they do not exist",
                description=(
                    "Make the topic, its durable base queue, the connection's shared event queue, if it names one, a "
                    "queue for asset watchers, if you name one, and their subscriptions. What exists is left as it is, "
                    "but for the visibility timeout and the retention of the asset queue, which are raised to what "
                    "asset watchers need. Exit code: 0; 1 if something could not be made."
                ),
                func=lazy_load_command("airflow_provider_tcbatch.commands.events.setup"),
                args=(
                    *EVENT_ARGS,
                    _option("dry-run", "Only say what would be made", action="store_true"),
                    ARG_OUTPUT,
                    ARG_VERBOSE,
                ),
            ),
            ActionCommand(
                name="check",
                help="Check topic, queues, subscriptions and rights, and send a test message all the way",
                description=(
                    "Check that the services can be reached, topic, queues, subscriptions, visibility timeouts and "
                    "retention; try each right that triggerers need, on a queue that is made for that and removed "
                    "again; and send a test message through it. One line for each step, with what to do. "
                    "Exit code: 0; 1 if something is missing or could not be checked."
                ),
                func=lazy_load_command("airflow_provider_tcbatch.commands.events.check"),
                args=(
                    *EVENT_ARGS,
                    _option(
                        "through",
                        "Receive the test message from this queue, too (can be given again). What lies in front of it "
                        "is not deleted, but hidden for the queue's visibility timeout",
                        action="append",
                    ),
                    _option("timeout", "Seconds that the message may take (default: 30)", type=_seconds, default=30.0),
                    ARG_OUTPUT,
                    ARG_VERBOSE,
                ),
            ),
        ),
    ),
)


def get_cli_commands() -> list[CLICommand]:
    """The commands that Airflow adds to its own."""
    return [GroupCommand(name="tcbatch", help="Jobs of Tencent Cloud Batch", subcommands=COMMANDS)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command without Airflow's own command line, which takes none from providers before 3.3.

    :param arguments: default are the process's.
    """
    parser = DefaultHelpParser(prog="python -m airflow_provider_tcbatch.cli", description="Jobs of Tencent Cloud Batch")
    _add(parser, COMMANDS)
    parsed = parser.parse_args(arguments)
    parsed.func(parsed)


def _add(parser: argparse.ArgumentParser, commands: Sequence[CLICommand]) -> None:
    from rich_argparse import RichHelpFormatter

    group = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in commands:
        # The formatter of Airflow's own command line, which reads markup.
        own = group.add_parser(
            command.name,
            help=command.help,
            description=command.description or command.help,
            formatter_class=RichHelpFormatter,
        )
        if isinstance(command, GroupCommand):
            _add(own, tuple(command.subcommands))
            continue
        for argument in command.args:
            argument.add_to_parser(own)
        own.set_defaults(func=command.func)


if __name__ == "__main__":
    main()
