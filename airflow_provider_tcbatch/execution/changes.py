"""Telling what differs from a wish: in the log, and for other tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.execution.airflow_calls import push

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_tcbatch.policies.task_template.difference import Change

__all__ = ["tell_changes"]


def tell_changes(
    operator: BaseOperator,
    context: Context,
    changes: Sequence[Change],
    *,
    words: str,
    fixed: Collection[Change] = (),
) -> None:
    """Report a difference, field by field, in the log and as XCom ``tcbatch_changes``.

    :param words: what it is about.
    :param fixed: those of the changes that can't be made.
    """
    operator.log.info("%s: %s", words, f"{len(changes)} changes" if changes else "nothing to change")
    for change in changes:
        operator.log.info("  %s%s", change, " (can't be changed)" if change in fixed else "")
    push(context, "tcbatch_changes", [change.to_json() for change in changes])
