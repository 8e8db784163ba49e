"""How the nodes of a compute environment are let go: pure decisions that hook, trigger and kill switch share.

Whether the service takes nodes on which something runs when an environment shall have fewer is not documented. So
nothing is left to its choice while something runs: idle nodes are named one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.models.states import ComputeNodeState as S
from airflow_provider_tcbatch.policies.compute_env.nodes import removable

if TYPE_CHECKING:
    from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow

__all__ = ["KEEPS_NODES", "Shrink", "detachable", "emptied", "shrinks"]


#: Words for an environment whose nodes can't all go; ``{}`` is its id.
KEEPS_NODES = "Compute environment {} keeps nodes that are being made or on which something runs; its idle ones go"


@dataclass(frozen=True)
class Shrink:
    """A request that lets nodes go.

    :param desired: how many nodes it shall have from now on; ``None`` where nodes are named.
    :param nodes: ids of nodes to destroy, any number.
    """

    desired: int | None = None
    nodes: tuple[str, ...] = ()


def shrinks(now: EnvNow, *, force: bool = False) -> list[Shrink]:
    """What can be asked for now, the best first; the next one is for NotEnoughComputeNodesToTerminate.

    :param force: destroy also nodes on which something runs.
    :returns: nothing if there is nothing to do but wait.
    """
    free = tuple(removable(now, busy=force))
    named = [Shrink(nodes=free)] if free else []
    if now.deleting or now.desired == 0 or (not force and _busy(now)):
        # Nodes may be left although it shall have none.
        return [] if now.deleting else named
    if force:
        return [Shrink(desired=0), *named]
    left = now.desired - len(free)
    # Nodes that are being made can't go.
    return [Shrink(desired=0), *([Shrink(desired=left)] if free and left > 0 else [])]


def emptied(now: EnvNow) -> bool:
    """Whether all nodes but attached ones have gone, or are going, and no others come."""
    own = [node for node in now.nodes or () if not node.attached]
    return now.deleting or (now.desired == 0 and all(node.state == S.DELETING for node in own))


def detachable(now: EnvNow, *, force: bool = False) -> list[str]:
    """Instances of the user's own that can leave: those on which nothing runs.

    :param force: also those on which something runs.
    """
    return [node.instance_id for node in now.nodes or () if node.attached and (force or not node.busy)]


def _busy(now: EnvNow) -> bool:
    return any(node.busy and not node.attached for node in now.nodes or ())
