"""A Batch job: tasks, each with one or many instances, and the order they run in."""

import graphlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, SecretStr, model_validator
from typing_extensions import Self

from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.compute_env import AnonymousComputeEnv
from airflow_provider_tcbatch.models.notification import Notification, NotificationTarget
from airflow_provider_tcbatch.models.states import WireEnum
from airflow_provider_tcbatch.models.storage import FolderPath, FolderPathOrNone, PackagePath
from airflow_provider_tcbatch.models.values import Count, FileName, ImageName, LocalPath, Percent, Text, VariableName

__all__ = [
    "Application",
    "Authentication",
    "CommandLine",
    "DeliveryForm",
    "Dependence",
    "Docker",
    "EnvVar",
    "FailedAction",
    "InputMapping",
    "Job",
    "MountType",
    "OutputMapping",
    "OutputMappingConfig",
    "OutputMappingOption",
    "RedirectInfo",
    "RedirectLocalInfo",
    "Scene",
    "StateIfCreateCvmFailed",
    "Tag",
    "Task",
    "TaskExecutionDependOn",
    "Workspace",
]


class DeliveryForm(WireEnum):
    """LOCAL: the program is on the machine already. PACKAGE: it comes from ``PackagePath``."""

    LOCAL = "LOCAL"
    PACKAGE = "PACKAGE"


class FailedAction(WireEnum):
    """What happens to the machine of a failed instance: destroyed, or kept (and billed) for a look."""

    TERMINATE = "TERMINATE"
    INTERRUPT = "INTERRUPT"
    FAST_INTERRUPT = "FAST_INTERRUPT"


class TaskExecutionDependOn(WireEnum):
    """What a task must have reached before its successors start."""

    PRE_TASK_SUCCEED = "PRE_TASK_SUCCEED"
    PRE_TASK_AT_LEAST_PARTLY_SUCCEED = "PRE_TASK_AT_LEAST_PARTLY_SUCCEED"
    PRE_TASK_FINISHED = "PRE_TASK_FINISHED"


class StateIfCreateCvmFailed(WireEnum):
    """FAILED: a machine that can't be made counts as a failure. RUNNABLE: the task keeps waiting."""

    FAILED = "FAILED"
    RUNNABLE = "RUNNABLE"


class MountType(WireEnum):
    """How a COS path is mounted."""

    COSFS = "COSFS"
    GOOSEFS_LITE = "GooseFS-Lite"


class Workspace(WireEnum):
    """Which working folder an output mapping's relative source path means."""

    BATCH_WORKSPACE = "BATCH_WORKSPACE"
    GLOBAL_WORKSPACE = "GLOBAL_WORKSPACE"


class Scene(WireEnum):
    """Kind of storage that outputs go to."""

    COS = "COS"


class Docker(ApiModel):
    """Container that the command runs in; ``delay_on_retry`` in seconds."""

    image: ImageName
    user: Text | None = None
    password: SecretStr | None = None
    server: Text | None = None
    max_retry_count: Count | None = None
    delay_on_retry: Count | None = None
    docker_run_option: Text | None = None


class CommandLine(ApiModel):
    """One command of a tightly coupled task."""

    command: Text


class Application(ApiModel):
    """What a task instance runs: ``command``, or ``commands`` for tightly coupled tasks."""

    delivery_form: DeliveryForm
    command: Text | None = None
    package_path: PackagePath | None = None
    docker: Docker | None = None
    commands: list[CommandLine] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_kind_of_command(self) -> Self:
        if self.command is not None and self.commands is not None:
            raise ValueError("Command and Commands exclude one another; keep one of them")
        if self.command is None and self.commands is None:
            raise ValueError("one of Command and Commands is required: what the task runs")
        if self.delivery_form is DeliveryForm.PACKAGE and self.package_path is None:
            raise ValueError("DeliveryForm PACKAGE needs a PackagePath (the .tgz that holds the program)")
        return self


class EnvVar(ApiModel):
    """An environment variable of the instances."""

    name: VariableName
    value: Text


class RedirectInfo(ApiModel):
    """Where stdout and stderr go when an instance has ended.

    File names may hold ``${BATCH_JOB_ID}``, ``${BATCH_TASK_NAME}`` and ``${BATCH_TASK_INSTANCE_INDEX}``;
    the default is ``stdout.<JobId>.<TaskName>.<TaskInstanceIndex>.log`` (``stderr...`` likewise).
    """

    stdout_redirect_path: FolderPathOrNone | None = None
    stderr_redirect_path: FolderPathOrNone | None = None
    stdout_redirect_file_name: FileName | None = None
    stderr_redirect_file_name: FileName | None = None


class RedirectLocalInfo(ApiModel):
    """Where stdout and stderr go on the machine itself."""

    stdout_local_path: Text | None = None
    stderr_local_path: Text | None = None
    stdout_local_file_name: Text | None = None
    stderr_local_file_name: Text | None = None


class InputMapping(ApiModel):
    """Remote storage that an instance sees as a local path."""

    source_path: FolderPath
    destination_path: LocalPath
    mount_option_parameter: str | None = None
    mount_type: MountType | None = None


class OutputMappingOption(ApiModel):
    """Options of an output mapping."""

    workspace: Workspace | None = None


class OutputMapping(ApiModel):
    """Local path that is copied to remote storage when an instance has ended."""

    source_path: LocalPath
    destination_path: FolderPath
    output_mapping_option: OutputMappingOption | None = None


class OutputMappingConfig(ApiModel):
    """Parallelism of the upload; ``worker_part_size`` in MB."""

    scene: Scene
    worker_num: Count
    worker_part_size: Count


class Authentication(ApiModel):
    """Keys for storage that belongs to another account."""

    scene: str
    secret_id: str
    secret_key: SecretStr


class Task(ApiModel):
    """One task of a job: a program that runs as one or many instances.

    Exactly one of ``env_id`` (an existing compute environment) and ``compute_env`` (machines made for
    this task) is given.

    :param timeout: seconds that one instance may run (service default 86400).
    :param max_retry_count: how often a failed instance is run again (service default 0).
    :param max_concurrent_num: how many instances may run at once.
    :param resource_max_retry_count: how often making a machine is tried again, 0 to 100.
    """

    application: Application
    task_name: Text | None = None
    task_instance_num: Count | None = None
    compute_env: AnonymousComputeEnv | None = None
    env_id: str | None = None
    redirect_info: RedirectInfo | None = None
    redirect_local_info: RedirectLocalInfo | None = None
    input_mappings: list[InputMapping] | None = None
    output_mappings: list[OutputMapping] | None = None
    output_mapping_configs: list[OutputMappingConfig] | None = None
    env_vars: list[EnvVar] | None = None
    authentications: list[Authentication] | None = None
    failed_action: FailedAction | None = None
    max_retry_count: Count | None = None
    timeout: Count | None = None
    max_concurrent_num: Count | None = None
    restart_compute_node: bool | None = None
    resource_max_retry_count: Percent | None = None

    @model_validator(mode="after")
    def _one_environment(self) -> Self:
        if (self.env_id is None) == (self.compute_env is None):
            given = "both are given" if self.env_id is not None else "neither is given"
            raise ValueError(
                f"exactly one of EnvId and ComputeEnv is required, {given}: EnvId names an existing "
                "compute environment, ComputeEnv describes machines made for this task"
            )
        return self


class Dependence(ApiModel):
    """``end_task`` starts after ``start_task``."""

    start_task: str
    end_task: str


class Tag(ApiModel):
    """A resource tag."""

    key: str
    value: str


def _repeated(names: list[str | None]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if name is not None and count > 1)


class Job(ApiModel):
    """A job as SubmitJob takes it."""

    tasks: list[Task] = Field(min_length=1)
    job_name: str | None = Field(default=None, max_length=60)
    job_description: str | None = Field(default=None, max_length=200)
    priority: Percent | None = None
    dependences: list[Dependence] | None = None
    notifications: list[Notification] | None = None
    task_execution_depend_on: TaskExecutionDependOn | None = None
    state_if_create_cvm_failed: StateIfCreateCvmFailed | None = None
    tags: list[Tag] | None = Field(default=None, max_length=10)
    notification_target: NotificationTarget | None = None

    @classmethod
    def without_unknowns(cls, wire: dict[str, Any], is_template: Callable[[Any], bool]) -> dict[str, Any]:
        """Leave out the dependences whose task can't be told yet; the others must be a graph already."""
        if "Dependences" not in wire:
            return wire
        tasks, edges = wire.get("Tasks"), wire["Dependences"]
        if is_template(edges) or not isinstance(tasks, list) or any(is_template(task) for task in tasks):
            return {key: value for key, value in wire.items() if key != "Dependences"}
        if not isinstance(edges, list):
            return wire
        # A list and not a set: what stands for a value of run time need not be hashable.
        names = [task.get("TaskName") for task in tasks if isinstance(task, Mapping)]
        open_names = any(is_template(name) for name in names)

        def can_be_judged(edge: Any) -> bool:
            if not isinstance(edge, Mapping):
                return not is_template(edge)
            ends = [edge.get("StartTask"), edge.get("EndTask")]
            return all(end in names or not (open_names or is_template(end)) for end in ends)

        return {**wire, "Dependences": [edge for edge in edges if can_be_judged(edge)]}

    @model_validator(mode="after")
    def _tasks_form_a_graph(self) -> Self:
        names = [task.task_name for task in self.tasks]
        if len(set(names)) < len(names) and (repeated := _repeated(names)):
            raise ValueError(f"TaskName must be unique in a job; used more than once: {', '.join(repeated)}")
        if not self.dependences:
            return self
        graph: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
        for number, edge in enumerate(self.dependences):
            for field, name in (("StartTask", edge.start_task), ("EndTask", edge.end_task)):
                if name not in names:
                    known = ", ".join(str(name) for name in names)
                    raise ValueError(
                        f"Dependences[{number}].{field} names task {name!r}, which the job does not have "
                        f"(tasks: {known})"
                    )
            graph.add(edge.end_task, edge.start_task)
        try:
            graph.prepare()
        except graphlib.CycleError as error:
            raise ValueError(f"Dependences form a cycle: {' → '.join(reversed(error.args[1]))}") from None
        return self
