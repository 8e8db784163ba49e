"""Compute environments, their nodes and what was done to them, as the emulator holds them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_provider_tcbatch.emulator.batch.machine.catalog import MachineType

SUBMITTED = "SUBMITTED"
PENDING = "PENDING"
CREATING = "CREATING"
CREATED = "CREATED"
CREATION_FAILED = "CREATION_FAILED"
RUNNING = "RUNNING"
ABNORMAL = "ABNORMAL"
DELETING = "DELETING"

NODE_STATES = (SUBMITTED, PENDING, CREATING, CREATED, CREATION_FAILED, RUNNING, ABNORMAL, DELETING)
#: Nodes that a client may destroy.
REMOVABLE = frozenset({CREATED, CREATION_FAILED, RUNNING, ABNORMAL})

BATCH_CREATED = "BATCH_CREATED"
USER_ATTACHED = "USER_ATTACHED"


@dataclass(eq=False)
class Activity:
    """The creation or destruction of one node."""

    activity_id: str
    node_id: str
    kind: str
    cause: str
    started_at: float
    state: str = "SUBMITTED"
    state_reason: str = ""
    ended_at: float | None = None
    instance_id: str = ""
    #: Environment that it belongs to.
    env_id: str = ""


class Occupant(Protocol):
    """What a node runs: an instance of a task."""

    @property
    def final(self) -> bool:
        """Whether it has ended."""

    def lose_machine(self, reason: str) -> bool:
        """Be told that the node is gone."""


@dataclass(eq=False)
class Node:
    """One machine of an environment."""

    node_id: str
    env: ComputeEnv
    origin: str = BATCH_CREATED
    state: str = SUBMITTED
    machine: MachineType | None = None
    #: The CVM's id; another one after the node was made again.
    instance_id: str = ""
    address: str = ""
    created_at: float | None = None
    #: Who has the node; it takes one instance at a time.
    instance: Occupant | None = None
    #: Makes, reboots or destroys the node; None when nothing is under way.
    worker: asyncio.Task[None] | None = None
    #: How often it was made again since it last ran.
    retries: int = 0

    @property
    def free(self) -> bool:
        """Whether an instance can have it."""
        return self.state == RUNNING and self.instance is None and self.worker is None


class EnvironmentGone(Exception):
    """The environment was deleted while an instance waited for one of its nodes."""


@dataclass(eq=False)
class ComputeEnv:
    """A compute environment; ``request`` is the CreateComputeEnv request as accepted."""

    env_id: str
    request: dict[str, Any]
    created_at: float
    name: str
    description: str
    desired: int
    #: EnvData; ModifyComputeEnv changes its instance types.
    data: dict[str, Any]
    next_action: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)
    #: By id, newest last.
    activities: dict[str, Activity] = field(default_factory=dict)
    notifications: dict[str, list[tuple[str, list[dict[str, str]]]]] = field(default_factory=dict)
    changed_at: float = 0.0
    #: Free nodes by id, the one that has been free longest first.
    _free: dict[str, Node] = field(default_factory=dict)
    _waiting: list[tuple[int, int, asyncio.Future[Node], Occupant]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)
    #: How many addresses were given away.
    addresses: int = 0

    @property
    def spec(self) -> dict[str, Any]:
        """The NamedComputeEnv object of the request."""
        spec: dict[str, Any] = self.request["ComputeEnv"]
        return spec

    @property
    def zone(self) -> str:
        """The zone it was asked for in."""
        return str(self.request["Placement"]["Zone"])

    @property
    def attached(self) -> int:
        """Nodes that a user put in."""
        return sum(node.origin == USER_ATTACHED for node in self.nodes.values())

    def new_address(self) -> str:
        """A private address for another machine."""
        number = self.addresses % 64_000
        self.addresses += 1
        return f"10.10.{number // 250}.{number % 250 + 2}"

    async def take_node(self, instance: Occupant, priority: int) -> Node:
        """Wait for a free node, after all who wait with a higher priority or came earlier with the same.

        :raises EnvironmentGone: when the environment is deleted meanwhile.
        """
        future: asyncio.Future[Node] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), future, instance))
        self.serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                node = future.result()
                node.instance = None
                self.offer(node)
            raise

    def offer(self, node: Node) -> None:
        """Give a node, if it is free, to who waits; to be called whenever a node may have become free."""
        if node.free:
            self._free[node.node_id] = node
        self.serve()

    def serve(self) -> None:
        """Hand free nodes to those who wait."""
        while self._waiting and self._free:
            node = self._free.pop(next(iter(self._free)))
            # It may have been lost or destroyed since it was offered.
            if not node.free:
                continue
            future = None
            while self._waiting and (future is None or future.done()):
                _, _, future, instance = heapq.heappop(self._waiting)
            if future is None or future.done():
                self._free[node.node_id] = node
                return
            node.instance = instance
            future.set_result(node)

    def dismiss(self) -> None:
        """Send everybody away who waits for a node."""
        for _, _, future, _ in self._waiting:
            if not future.done():
                future.set_exception(EnvironmentGone(f"The compute environment {self.env_id} was deleted"))
        self._waiting.clear()
