"""What the nodes of a compute environment say: pure decisions that operator, trigger and sensor share.

An environment has no state of its own; it is what its nodes are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_tcbatch.models.states import ComputeNodeState as S

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnvResult
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView

__all__ = ["FAILED", "Condition", "EnvNow", "Node", "Until", "Verdict", "env_now", "judge_env", "removable"]

#: Nodes that can be destroyed.
REMOVABLE = (S.CREATED, S.CREATION_FAILED, S.RUNNING, S.ABNORMAL)

#: Nodes that nothing good comes of by itself, or only after the service has made them anew.
FAILED = (S.CREATION_FAILED, S.ABNORMAL)

_ATTACHED = "USER_ATTACHED"


class Node(NamedTuple):
    """A node, as far as it matters here.

    :param node_id: its id.
    :param state: its state.
    :param instance_id: its CVM instance, if it has one.
    :param attached: whether it is an instance of the user's own.
    :param busy: whether a task instance runs on it.
    """

    node_id: str
    state: str
    instance_id: str = ""
    attached: bool = False
    busy: bool = False


class EnvNow(NamedTuple):
    """An environment at one moment.

    :param desired: how many nodes it shall have, without those that were attached.
    :param running: nodes that run.
    :param failed: nodes that could not be made, or were lost.
    :param present: nodes of any state. (The service does not count PENDING ones.)
    :param attached: instances of the user's own.
    :param deleting: whether the environment is being deleted.
    :param states: states in which there are nodes, as the service counts them.
    :param nodes: the nodes; ``None`` where they were not asked for.
    """

    desired: int = 0
    running: int = 0
    failed: int = 0
    present: int = 0
    attached: int = 0
    deleting: bool = False
    states: frozenset[str] = frozenset()
    nodes: tuple[Node, ...] | None = None

    def to_json(self) -> dict[str, int]:
        """The counts in plain JSON."""
        names = ("desired", "running", "failed", "present", "attached")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        more = f", {self.failed} failed" if self.failed else ""
        own = f", {self.attached} attached" if self.attached else ""
        gone = ", being deleted" if self.deleting else ""
        return f"{self.running} of {self.desired} nodes run{own}{more}{gone}"


def env_now(view: ComputeEnvView | DescribeComputeEnvResult) -> EnvNow:
    """What matters of an answer of the API."""
    metrics = view.compute_node_metrics
    listed = getattr(view, "compute_node_set", None)
    nodes = None
    if listed is not None or hasattr(view, "compute_node_set"):
        nodes = tuple(
            Node(
                node.compute_node_id,
                str(node.compute_node_state or ""),
                node.compute_node_instance_id or "",
                node.resource_origin == _ATTACHED,
                node.compute_node_state == S.RUNNING and node.task_instance_num_available == 0,
            )
            for node in listed or ()
        )
    present = 0 if metrics is None else metrics.total
    return EnvNow(
        desired=view.desired_compute_node_count or 0,
        running=0 if metrics is None else metrics.running_count,
        failed=0 if metrics is None else metrics.creation_failed_count + metrics.abnormal_count,
        # Only the list of nodes shows those that are PENDING.
        present=present if nodes is None else len(nodes),
        attached=view.attached_compute_node_count or 0,
        deleting=bool(view.next_action),
        states=frozenset(
            state.value
            for state in S
            if metrics is not None and getattr(metrics, f"{state.value.lower()}_count", False)
        ),
        nodes=nodes,
    )


class Until(str, Enum):
    """What is waited for."""

    #: At least so many nodes run.
    NODES_RUNNING = "nodes_running"
    #: All nodes that it shall have run, and there are no others.
    DESIRED = "desired"
    #: A node could not be made, or was lost.
    NODE_FAILED = "node_failed"
    #: There are no nodes, but attached ones.
    EMPTY = "empty"
    #: The environment does not exist any more.
    DELETED = "deleted"
    #: Certain nodes are gone.
    NODES_GONE = "nodes_gone"
    #: Certain CVM instances run as nodes.
    INSTANCES_RUNNING = "instances_running"
    #: Certain CVM instances are no nodes any more.
    INSTANCES_GONE = "instances_gone"


@dataclass(frozen=True)
class Condition:
    """What is waited for, in full.

    :param until: what.
    :param nodes: how many nodes, for ``nodes_running``.
    :param ids: ids of nodes, or of CVM instances.
    :param fail_fast: end the wait as soon as too many nodes have failed for it to come true by itself.
    """

    until: Until
    nodes: int = 0
    ids: frozenset[str] = field(default_factory=frozenset)
    fail_fast: bool = False

    @property
    def needs_nodes(self) -> bool:
        """Whether the nodes themselves must be looked at, not only how many there are."""
        return bool(self.ids) or self.until is Until.EMPTY

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "until": self.until.value,
            "nodes": self.nodes,
            "ids": sorted(self.ids),
            "fail_fast": self.fail_fast,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Condition:
        """Read what :meth:`to_json` made.

        :raises ValueError: if there is no such condition.
        """
        return cls(
            Until(data["until"]),
            int(data.get("nodes") or 0),
            frozenset(data.get("ids") or ()),
            bool(data.get("fail_fast")),
        )


class Verdict(Enum):
    """What has become of a wait."""

    #: Go on waiting.
    WAITING = "waiting"
    #: It has come true.
    REACHED = "reached"
    #: Too many nodes have failed for it to come true by itself.
    FAILING = "failing"
    #: The environment does not exist, or is being deleted: it can't come true any more.
    GONE = "gone"


def judge_env(now: EnvNow | None, condition: Condition) -> Verdict:
    """Whether what is waited for has come true.

    :param now: the environment; ``None`` if it does not exist.
    """
    until = condition.until
    if now is None:
        gone = (Until.DELETED, Until.EMPTY, Until.NODES_GONE, Until.INSTANCES_GONE)
        return Verdict.REACHED if until in gone else Verdict.GONE
    if _reached(now, condition):
        return Verdict.REACHED
    if now.deleting and until in (Until.NODES_RUNNING, Until.DESIRED, Until.INSTANCES_RUNNING):
        return Verdict.GONE
    return Verdict.FAILING if condition.fail_fast and _failing(now, condition) else Verdict.WAITING


def _reached(now: EnvNow, condition: Condition) -> bool:
    until, nodes = condition.until, now.nodes or ()
    if until is Until.NODES_RUNNING:
        return now.running >= condition.nodes
    if until is Until.DESIRED:
        # Which of the running ones are attached is not counted: all of these run, or it is not settled.
        return now.running == now.desired + now.attached == now.present
    if until is Until.NODE_FAILED:
        return now.failed > 0
    if until is Until.EMPTY:
        return now.nodes is not None and not [node for node in nodes if not node.attached]
    if until is Until.NODES_GONE:
        return now.nodes is not None and condition.ids.isdisjoint(node.node_id for node in nodes)
    if until is Until.INSTANCES_RUNNING:
        return condition.ids <= {node.instance_id for node in nodes if node.state == S.RUNNING}
    if until is Until.INSTANCES_GONE:
        return now.nodes is not None and condition.ids.isdisjoint(node.instance_id for node in nodes)
    return False


def _failing(now: EnvNow, condition: Condition) -> bool:
    """Whether nothing but a node that failed can make it come true."""
    if condition.until is Until.NODES_RUNNING:
        return now.failed > 0 and now.desired + now.attached - now.failed < condition.nodes
    if condition.until is Until.DESIRED:
        return now.failed > 0
    if condition.until is Until.INSTANCES_RUNNING:
        return any(node.instance_id in condition.ids and node.state in FAILED for node in now.nodes or ())
    return False


def removable(now: EnvNow, *, busy: bool = False) -> list[str]:
    """Ids of nodes that can be destroyed now; attached ones never can.

    :param busy: also those on which something runs.
    """
    return [
        node.node_id
        for node in now.nodes or ()
        if node.state in REMOVABLE and not node.attached and (busy or not node.busy)
    ]
