"""What an environment whose nodes failed says in the Airflow log: pure text, from what was read elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.models.states import ActivityState, ComputeNodeState
from airflow_provider_tcbatch.policies.compute_env.nodes import FAILED, EnvNow
from airflow_provider_tcbatch.policies.failure_hints import advice
from airflow_provider_tcbatch.text import visible

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.env_views import Activity

__all__ = ["FailedNode", "env_report", "failed_nodes"]

#: Failed nodes that a report names.
_SHOWN = 5


@dataclass(frozen=True)
class FailedNode:
    """A node that failed, as far as it is known.

    :param node_id: its id.
    :param state: its state now: the service may be about to make it anew.
    :param instance_id: its CVM instance, if there ever was one.
    :param reason: why, in the service's words.
    :param cause: what it was made for, in the service's words.
    """

    node_id: str
    state: str
    instance_id: str = ""
    reason: str = ""
    cause: str = ""

    def headline(self) -> str:
        """One line that says what happened to it."""
        machine = f" (CVM instance {self.instance_id})" if self.instance_id else ""
        reason = f": {self.reason}" if self.reason else ""
        lost = " (it was lost after it had run)" if not reason and self.state == ComputeNodeState.ABNORMAL else ""
        return f"node {self.node_id}{machine} is {self.state}{reason}{lost}"


def failed_nodes(now: EnvNow, activities: Iterable[Activity]) -> list[FailedNode]:
    """The nodes that failed, and why.

    :param now: the environment with its nodes.
    :param activities: its activities, newest first.
    """
    last: dict[str, Activity] = {}
    for activity in activities:
        node_id = activity.compute_node_id
        if node_id and activity.activity_state == ActivityState.FAILED:
            last.setdefault(node_id, activity)
    found = []
    for node in now.nodes or ():
        activity_ = last.get(node.node_id)
        # One that is being made anew has failed as well; one that runs has not, whatever happened before.
        remade = activity_ is not None and node.state not in (ComputeNodeState.RUNNING, ComputeNodeState.DELETING)
        if node.state in FAILED or remade:
            reason = (activity_ and activity_.state_reason) or ""
            cause = (activity_ and activity_.cause) or ""
            found.append(FailedNode(node.node_id, node.state, node.instance_id, reason, cause))
    return found


def env_report(
    env_id: str,
    name: str | None,
    now: EnvNow | None,
    failed: Sequence[FailedNode],
    *,
    hints: Sequence[str] = (),
    url: str | None = None,
) -> str:
    """Text about an environment that did not come to what was wanted.

    :param env_id: the environment.
    :param name: its name.
    :param now: as it is; ``None`` if it does not exist.
    :param failed: its failed nodes.
    :param hints: more to say, a line each.
    :param url: its page in the console.
    """
    called = f"Compute environment {env_id}" + (f" ({name})" if name else "")
    lines = [f"{called}: {'it does not exist' if now is None else now}."]
    lines += [f"- {node.headline()}" for node in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        lines.append(f"- and {len(failed) - _SHOWN} more nodes")
    told = dict.fromkeys(text for node in failed if (text := advice(node.reason)) is not None)
    lines += [f"What to do: {text}." for text in told]
    lines += list(hints)
    if url:
        lines.append(f"Console: {url}")
    return visible("\n".join(lines))
