"""Actions on compute environments and their nodes."""

from typing import ClassVar

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from airflow_provider_tcbatch.models.answers import Listing
from airflow_provider_tcbatch.models.base import Distinct
from airflow_provider_tcbatch.models.compute_env import Placement
from airflow_provider_tcbatch.models.env_views import Activity, ComputeEnvCreateInfo, ComputeEnvView, ComputeNode
from airflow_provider_tcbatch.models.named_env import ComputeEnvData, Instance, NamedComputeEnv, NodeCount
from airflow_provider_tcbatch.models.request import Action, ClientToken, Filter, Page, Result

__all__ = [
    "AttachInstances",
    "AttachInstancesResult",
    "CreateComputeEnv",
    "CreateComputeEnvResult",
    "DeleteComputeEnv",
    "DeleteComputeEnvResult",
    "DescribeComputeEnv",
    "DescribeComputeEnvActivities",
    "DescribeComputeEnvActivitiesResult",
    "DescribeComputeEnvCreateInfo",
    "DescribeComputeEnvCreateInfoResult",
    "DescribeComputeEnvCreateInfos",
    "DescribeComputeEnvCreateInfosResult",
    "DescribeComputeEnvResult",
    "DescribeComputeEnvs",
    "DescribeComputeEnvsResult",
    "DetachInstances",
    "DetachInstancesResult",
    "ModifyComputeEnv",
    "ModifyComputeEnvResult",
    "TerminateComputeNode",
    "TerminateComputeNodeResult",
    "TerminateComputeNodes",
    "TerminateComputeNodesResult",
]


# -- writing -----------------------------------------------------------------------------------------


class CreateComputeEnvResult(Result):
    """Answer of CreateComputeEnv. The id comes before the first machine."""

    env_id: str


class CreateComputeEnv(Action[CreateComputeEnvResult]):
    """Make a compute environment; with a ``client_token`` (at most 64 ASCII characters) only once."""

    repeatable: ClassVar[bool] = False

    compute_env: NamedComputeEnv
    placement: Placement
    client_token: ClientToken | None = None

    @property
    def may_repeat(self) -> bool:
        return self.client_token is not None


class ModifyComputeEnvResult(Result):
    """Answer of ModifyComputeEnv; nodes come and go afterwards."""


class ModifyComputeEnv(Action[ModifyComputeEnvResult]):
    """Change an environment; what is not given stays.

    Repeating is harmless: the number of nodes is the wanted one and not a difference, so is everything else.

    :param desired_compute_node_count: 0 to 2000. An environment has to be brought to 0 before it can be deleted.
    """

    env_id: str
    desired_compute_node_count: NodeCount | None = None
    env_name: str | None = None
    env_description: str | None = None
    env_data: ComputeEnvData | None = None


class DeleteComputeEnvResult(Result):
    """Answer of DeleteComputeEnv."""


class DeleteComputeEnv(Action[DeleteComputeEnvResult]):
    """Delete an environment without nodes.

    Repeating is harmless: a second deletion is refused while the first is under way
    (UnsupportedOperation.ComputeEnvOperation), and answered with ResourceNotFound.ComputeEnv afterwards.
    """

    env_id: str


class TerminateComputeNodeResult(Result):
    """Answer of TerminateComputeNode, which only says that the request was accepted."""


class TerminateComputeNode(Action[TerminateComputeNodeResult]):
    """Destroy a node that is CREATED, CREATION_FAILED, RUNNING or ABNORMAL.

    Repeating is harmless: it names its node, and a second request for a node that is going is refused
    (UnsupportedOperation.ComputeNodeIsTerminating).
    """

    env_id: str
    compute_node_id: str


class TerminateComputeNodesResult(Result):
    """Answer of TerminateComputeNodes, which only says that the request was accepted."""


class TerminateComputeNodes(Action[TerminateComputeNodesResult]):
    """Destroy at most 100 nodes; repeating is as harmless as with :class:`TerminateComputeNode`."""

    env_id: str
    compute_node_ids: list[str] = Field(max_length=100)


class AttachInstancesResult(Result):
    """Answer of AttachInstances."""


class AttachInstances(Action[AttachInstancesResult]):
    """Bring at most 100 running CVM instances of the user's own into an environment.

    Their systems are **installed anew**. Not repeatable for that reason: that a second request is refused is documented
    for instances that have joined, not for those that are about to.
    """

    repeatable: ClassVar[bool] = False

    env_id: str
    instances: list[Instance] = Field(max_length=100)

    @field_validator("instances")
    @classmethod
    def _distinct_ids(cls, instances: list[Instance]) -> list[Instance]:
        ids = [instance.instance_id for instance in instances]
        if repeated := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"names {', '.join(repeated)} more than once")
        return instances


class DetachInstancesResult(Result):
    """Answer of DetachInstances."""


class DetachInstances(Action[DetachInstancesResult]):
    """Take instances that AttachInstances brought out of an environment; they go on running.

    Repeating is harmless: an instance that is out can't be taken out again.
    """

    env_id: str
    instance_ids: Distinct


# -- reading -----------------------------------------------------------------------------------------


class DescribeComputeEnvResult(Result, ComputeEnvView):
    """Answer of DescribeComputeEnv."""

    compute_node_set: list[ComputeNode] | None = None


class DescribeComputeEnv(Action[DescribeComputeEnvResult]):
    """One environment with its nodes."""

    env_id: str


class DescribeComputeEnvsResult(Result):
    """Answer of DescribeComputeEnvs."""

    compute_env_set: Listing[ComputeEnvView]
    total_count: int | None = None


class DescribeComputeEnvs(Action[DescribeComputeEnvsResult]):
    """Many environments, by id (at most 100) or by filter.

    :param filters: ``zone``, ``env-id``, ``env-name``, ``resource-type``, ``tag-key``, ``tag-value``, ``tag:<key>``.
    :param limit: service default 20, at most 100.
    """

    env_ids: list[str] | None = Field(default=None, max_length=100)
    filters: list[Filter] | None = None
    offset: Page | None = None
    limit: int | None = Field(default=None, ge=0, le=100)

    @model_validator(mode="after")
    def _ids_or_filters(self) -> Self:
        self._exclusive("env_ids", "filters")
        return self


class DescribeComputeEnvActivitiesResult(Result):
    """Answer of DescribeComputeEnvActivities."""

    activity_set: Listing[Activity]
    total_count: int | None = None


class DescribeComputeEnvActivities(Action[DescribeComputeEnvActivitiesResult]):
    """How the nodes of an environment came and went.

    :param filters: one filter, not a list: ``compute-node-id``.
    :param limit: service default 20, at most 100.
    """

    env_id: str
    offset: Page | None = None
    limit: int | None = Field(default=None, ge=0, le=100)
    filters: Filter | None = None


class DescribeComputeEnvCreateInfoResult(Result, ComputeEnvCreateInfo):
    """Answer of DescribeComputeEnvCreateInfo."""


class DescribeComputeEnvCreateInfo(Action[DescribeComputeEnvCreateInfoResult]):
    """One environment as it was asked for."""

    env_id: str


class DescribeComputeEnvCreateInfosResult(Result):
    """Answer of DescribeComputeEnvCreateInfos."""

    total_count: int | None = None
    compute_env_create_info_set: Listing[ComputeEnvCreateInfo]


class DescribeComputeEnvCreateInfos(Action[DescribeComputeEnvCreateInfosResult]):
    """Many environments as they were asked for, by id (at most 100) or by filter.

    :param filters: as with :class:`DescribeComputeEnvs`.
    :param limit: service default 20, at most 100.
    """

    env_ids: list[str] | None = Field(default=None, max_length=100)
    filters: list[Filter] | None = None
    offset: Page | None = None
    limit: int | None = Field(default=None, ge=0, le=100)

    @model_validator(mode="after")
    def _ids_or_filters(self) -> Self:
        self._exclusive("env_ids", "filters")
        return self
