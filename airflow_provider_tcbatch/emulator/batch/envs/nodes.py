"""The life of compute nodes: made, made again, lost, rebooted, destroyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tcbatch.emulator.batch.envs import events
from airflow_provider_tcbatch.emulator.batch.envs.entities import (
    ABNORMAL,
    BATCH_CREATED,
    CREATED,
    CREATING,
    CREATION_FAILED,
    DELETING,
    PENDING,
    REMOVABLE,
    RUNNING,
    SUBMITTED,
    USER_ATTACHED,
    Activity,
    ComputeEnv,
    Node,
)
from airflow_provider_tcbatch.emulator.batch.machine import cvm
from airflow_provider_tcbatch.emulator.batch.machine.catalog import MachineType
from airflow_provider_tcbatch.emulator.batch.publication import publish
from airflow_provider_tcbatch.emulator.ids import new_id

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService
    from airflow_provider_tcbatch.emulator.host import Host

CREATE = "CREATE_COMPUTE_NODE"
#: What the service says of a machine that stopped answering; a sample of Tencent's documentation.
HEARTBEAT_TIMEOUT = "first heartbeat timeout"


def create(batch: BatchService, env: ComputeEnv, count: int, cause: str) -> None:
    """Begin to make nodes."""
    for _ in range(count):
        node = Node(new_id("node", env.nodes), env)
        env.nodes[node.node_id] = node
        batch.host.ledger.touch(node)
        node.worker = batch.host.spawn(_make(batch, node, cause), f"creation of {node.node_id}")


def attach(batch: BatchService, env: ComputeEnv, instance_id: str) -> None:
    """Take in a machine of the user's; its system is installed anew first."""
    host = batch.host
    node = Node(new_id("node", env.nodes), env, USER_ATTACHED, CREATED)
    node.instance_id, node.machine, node.created_at = instance_id, _any_machine(host, env), host.now()
    node.address = env.new_address()
    host.ledger.touch(env)
    env.nodes[node.node_id] = node
    _tell(batch, node)
    node.worker = host.spawn(_boot(batch, node), f"boot of {node.node_id}")


def detach(host: Host, node: Node) -> None:
    """Let a machine of the user's go; what runs on it fails."""
    _leave(node, f"DetachInstances: the instance {node.instance_id} left the compute environment")
    node.state = DELETING
    node.env.nodes.pop(node.node_id, None)
    host.ledger.touch(node)


def destroy(batch: BatchService, node: Node, cause: str) -> None:
    """Begin to destroy a node; what runs on it fails."""
    host = batch.host
    _leave(node, f"{cause}: the compute node {node.node_id} was destroyed")
    activity = _begin(host, node, host.settings.destroy_activity_type, cause)
    activity.state = "PROCESSING"
    _set(batch, node, DELETING)
    node.worker = host.spawn(_destroy(host, node, activity), f"destruction of {node.node_id}")


def reboot(batch: BatchService, node: Node) -> None:
    """Restart a running node; nothing is given to it meanwhile."""
    if node.state == RUNNING and node.worker is None:
        node.worker = batch.host.spawn(_boot(batch, node), f"reboot of {node.node_id}")


def lose(batch: BatchService, node: Node, reason: str = HEARTBEAT_TIMEOUT) -> bool:
    """A node stops answering: it is ABNORMAL, what runs on it fails, and another machine takes its place if it may.

    :return: whether it was up at all.
    """
    if node.state not in (CREATED, RUNNING):
        return False
    _leave(node, reason)
    _set(batch, node, ABNORMAL)
    node.worker = batch.host.spawn(_replace(batch, node), f"replacement of {node.node_id}")
    return True


def resume(batch: BatchService, node: Node) -> None:
    """Go on with a node that an emulator before this one had; what ran on it is lost, and the machine with it."""
    host = batch.host
    env = node.env
    begun = next(
        (item for item in reversed(env.activities.values()) if item.node_id == node.node_id and item.ended_at is None),
        None,
    )
    cause = begun.cause if begun is not None else f"CreateComputeNode {node.node_id}"
    if node.state in (SUBMITTED, PENDING, CREATING):
        node.worker = host.spawn(_make(batch, node, cause, begun), f"creation of {node.node_id}")
    elif node.state == CREATED:
        node.worker = host.spawn(_boot(batch, node), f"boot of {node.node_id}")
    elif node.state == DELETING:
        activity = begun or _begin(host, node, host.settings.destroy_activity_type, cause)
        node.worker = host.spawn(_destroy(host, node, activity), f"destruction of {node.node_id}")
    elif node.state in (ABNORMAL, CREATION_FAILED):
        node.worker = host.spawn(_replace(batch, node), f"replacement of {node.node_id}")
    elif node.instance is not None and not node.instance.final:
        lose(batch, node)
    else:
        env.offer(node)


def removable(host: Host, env: ComputeEnv) -> list[Node]:
    """Nodes that a lower number of desired nodes takes away, the least useful first."""
    order = {CREATION_FAILED: 0, ABNORMAL: 1, CREATED: 2, RUNNING: 3}
    found = [
        node
        for node in env.nodes.values()
        if node.origin == BATCH_CREATED
        and node.state in REMOVABLE
        and (node.instance is None or host.settings.shrink_busy_nodes)
    ]
    return sorted(found, key=lambda node: (node.instance is not None, order[node.state]))


def _leave(node: Node, reason: str) -> None:
    """Stop whatever happens on and to a node."""
    if node.worker is not None:
        node.worker.cancel()
        node.worker = None
    if node.instance is not None:
        node.instance.lose_machine(reason)


def _set(batch: BatchService, node: Node, state: str) -> None:
    node.state = state
    _tell(batch, node)


def _tell(batch: BatchService, node: Node) -> None:
    env = node.env
    batch.host.ledger.touch(node)
    name = f"COMPUTE_NODE_{node.state}"
    for _ in publish(batch, env.notifications, name, env.env_id, lambda: events.node_members(node)):
        pass


def _begin(host: Host, node: Node, kind: str, cause: str) -> Activity:
    activities = node.env.activities
    activity = Activity(new_id("act", activities), node.node_id, kind, cause, host.now())
    activity.instance_id, activity.env_id = node.instance_id, node.env.env_id
    activities[activity.activity_id] = activity
    host.ledger.touch(activity)
    return activity


def _end(host: Host, activity: Activity, reason: str = "") -> None:
    activity.state, activity.state_reason, activity.ended_at = "FAILED" if reason else "SUCCEED", reason, host.now()
    host.ledger.touch(activity)


async def _make(batch: BatchService, node: Node, cause: str, begun: Activity | None = None) -> None:
    """Make a node, again and again if that is wanted, until it runs."""
    host = batch.host
    settings = host.settings
    env = node.env
    while True:
        activity, begun = begun or _begin(host, node, CREATE, cause), None
        _set(batch, node, SUBMITTED)
        await host.sleep(settings.node_submitted_seconds)
        _set(batch, node, PENDING)
        activity.state = "PROCESSING"
        host.ledger.touch(activity)
        await host.sleep(settings.node_pending_seconds)
        _set(batch, node, CREATING)
        await host.sleep(settings.node_creating_seconds)
        try:
            node.machine = cvm.rent(batch, env.data, env.zone)
        except cvm.CreationFailed as error:
            _end(host, activity, str(error))
            _set(batch, node, CREATION_FAILED)
            if not await _may_retry(host, node):
                node.worker = None
                return
            cause = f"CreateComputeNode {node.node_id}"
            continue
        node.instance_id = activity.instance_id = new_id("ins")
        node.address, node.created_at = env.new_address(), host.now()
        host.ledger.touch(env)
        _set(batch, node, CREATED)
        _end(host, activity)
        await _boot(batch, node)
        return


async def _boot(batch: BatchService, node: Node) -> None:
    host = batch.host
    await host.sleep(host.settings.node_created_seconds)
    node.worker = None
    node.retries = 0
    if node.state != RUNNING:
        _set(batch, node, RUNNING)
    host.ledger.touch(node)
    node.env.offer(node)


async def _may_retry(host: Host, node: Node) -> bool:
    """Wait until a node may be made again; false when it may not."""
    spec = node.env.spec
    if spec.get("ActionIfComputeNodeInactive", "RECREATE") != "RECREATE":
        return False
    if node.retries >= spec.get("ResourceMaxRetryCount", 7):
        return False
    node.retries += 1
    host.ledger.touch(node)
    await host.sleep(cvm.retry_wait(host, node.retries))
    return True


async def _replace(batch: BatchService, node: Node) -> None:
    if node.origin == BATCH_CREATED and await _may_retry(batch.host, node):
        node.instance_id, node.machine, node.created_at = "", None, None
        await _make(batch, node, f"CreateComputeNode {node.node_id}")
    else:
        node.worker = None


async def _destroy(host: Host, node: Node, activity: Activity) -> None:
    await host.sleep(host.settings.node_deleting_seconds)
    node.env.nodes.pop(node.node_id, None)
    host.ledger.touch(node)
    _end(host, activity)
    node.worker = None


def _any_machine(host: Host, env: ComputeEnv) -> MachineType:
    """What a machine of the user's is taken for: nobody says what it is."""
    found = [machine for machine in cvm.candidates(host, env.data) if isinstance(machine, MachineType)]
    return found[0] if found else cvm.default_machine()
