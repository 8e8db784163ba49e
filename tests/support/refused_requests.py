"""A request for each error code of jobs and templates that the emulator gives, and of all APIs.

Plain data where the request alone is wrong; a function of :class:`World` where it depends on what there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.actions import SubmitJob
from airflow_provider_tcbatch.models.env_actions import CreateComputeEnv
from airflow_provider_tcbatch.models.request import Action, Result
from airflow_provider_tcbatch.models.template_actions import CreateTaskTemplate
from tests.support.documented_errors import DOCUMENTED

Params = dict[str, Any]
Make = Callable[["World"], Params]

ZONE = {"Zone": "ap-guangzhou-3"}
TASK = {
    "TaskName": "main",
    "Application": {"DeliveryForm": "LOCAL", "Command": "true"},
    "ComputeEnv": {"EnvData": {"InstanceType": "S5.MEDIUM4"}},
}
ENV = {"EnvName": "e", "DesiredComputeNodeCount": 0, "EnvData": {"InstanceType": "S5.MEDIUM4"}}
NO_JOB, NO_ENV, NO_TEMPLATE = "job-00000000", "env-00000000", "task-tmpl-00000000"


@dataclass(frozen=True)
class Refused:
    """A request and the code that it is refused with.

    :param settings: of the emulator, while it is sent.
    """

    action: str
    code: str
    params: Params | Make
    settings: Params = field(default_factory=dict)
    service: str = "batch"

    def __str__(self) -> str:
        return f"{self.action}-{self.code}"


class AsIs(Action[Result]):
    """A request that nothing checks before it is sent."""

    repeatable: ClassVar[bool] = False


def as_is(action: str, params: Params, service: str = "batch", version: str | None = None) -> AsIs:
    """A request of any action with any members."""
    members = {
        "service": service,
        "version": version or ("2020-02-17" if service == "tdmq" else "2017-03-12"),
        "name": classmethod(lambda cls: action),
        "to_wire": lambda self: params,
        "__annotations__": {"service": ClassVar[str], "version": ClassVar[str]},
        "__module__": __name__,
    }
    made: AsIs = type("AsIs", (AsIs,), members)()
    return made


@dataclass
class World:
    """What requests need to be there; made when it is asked for."""

    emulator: Emulator
    api: ApiClient

    def ask(self, action: str, **params: Any) -> None:
        """Something that works."""
        self.api.call(as_is(action, params), attempts=1)

    def job(self, *, ended: bool = False, **task: Any) -> str:
        """A job that is SUBMITTED for ever, or one that has ended."""
        self.emulator.configure(submitted_seconds=0 if ended else 600)
        job_id = self.api.call(SubmitJob.parse(submission(task))).job_id
        if ended:
            self.emulator.wait_job(job_id)
        return job_id

    def env(self, nodes: int = 0, **settings: Any) -> str:
        """An environment."""
        self.emulator.configure(**settings)
        return self.api.call(CreateComputeEnv.parse(creation(DesiredComputeNodeCount=nodes))).env_id

    def deleted_env(self) -> str:
        """An environment that is being deleted."""
        env_id = self.env(env_deleting_seconds=600)
        self.ask("DeleteComputeEnv", EnvId=env_id)
        return env_id

    def node_of(self, env_id: str, state: str) -> str:
        """The only node of an environment, in a state."""
        deadline = time.monotonic() + 20
        while True:
            found = self.emulator.on_loop(lambda services: dict(services.batch.envs[env_id].nodes))
            if [node.state for node in found.values()] == [state]:
                return next(iter(found))
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def unfinished_node(self) -> Params:
        """A node that is being made."""
        env_id = self.env(1, node_creating_seconds=600)
        return {"EnvId": env_id, "ComputeNodeId": self.node_of(env_id, "CREATING")}

    def dying_node(self) -> Params:
        """A node that is being destroyed."""
        env_id = self.env(1, node_creating_seconds=0, node_deleting_seconds=600)
        request = {"EnvId": env_id, "ComputeNodeId": self.node_of(env_id, "RUNNING")}
        self.ask("TerminateComputeNode", **request)
        return request

    def topic(self, **attributes: Any) -> str:
        """A topic."""
        name = f"t{time.time_ns()}"
        self.api.call(as_is("CreateCmqTopic", {"TopicName": name, **attributes}, "tdmq"))
        return name

    def queue(self, **attributes: Any) -> str:
        """A queue."""
        name = f"q{time.time_ns()}"
        self.api.call(as_is("CreateCmqQueue", {"QueueName": name, **attributes}, "tdmq"))
        return name


def rented(**data: Any) -> Params:
    """A Task, or what an environment has in its place, whose machines are wrong."""
    return {"EnvData": data}


def told(*topics: str, events: tuple[str, ...] = ("COMPUTE_NODE_RUNNING",)) -> Params:
    configs = [{"EventName": event, "EventVars": []} for event in events]
    return {"Notifications": [{"TopicName": topic, "EventConfigs": configs} for topic in topics]}


#: What may be wrong with machines, of a task as of an environment.
MACHINES: dict[str, Params] = {
    "InvalidParameter.CvmParameters": rented(LoginSettings={"Password": "p", "KeyIds": ["k"]}),
    "InvalidParameter.ImageIdMalformed": rented(ImageId="image"),
    "InvalidParameter.InvalidParameterCombination": rented(InstanceType="a", InstanceTypes=["a"]),
    "InvalidParameterValue.ComputeEnv": {"EnvType": "QUEUE"},
    "InvalidParameterValue.InstanceTypeDuplicate": rented(InstanceTypes=["a", "a"]),
    "InvalidParameterValue.InvalidZoneMismatchRegion": rented(Zones=["ap-beijing-1"]),
    "InvalidParameterValue.LimitExceeded": rented(InstanceTypes=[str(number) for number in range(11)]),
    "InvalidParameterValue.NotFloat": rented(InstanceMarketOptions={"SpotOptions": {"MaxPrice": "much"}}),
    "InvalidZone.MismatchRegion": rented(Zones=["nowhere"]),
}
MAPPINGS: dict[str, Params] = {
    "InvalidParameterValue.LocalPath": {
        "InputMappings": [{"SourcePath": "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/", "DestinationPath": ".."}]
    },
    "InvalidParameterValue.RemoteStoragePath": {
        "InputMappings": [{"SourcePath": "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/x", "DestinationPath": "x"}]
    },
    "InvalidParameterValue.RemoteStorageSchemeType": {
        "InputMappings": [{"SourcePath": "cfs://10.0.0.1/", "DestinationPath": "x"}]
    },
}
#: What may be wrong with a task, of a job as of a template.
TASKS: dict[str, Params] = {
    **{code: {"ComputeEnv": env} for code, env in MACHINES.items()},
    **MAPPINGS,
    "AllowedOneAttributeInEnvIdAndComputeEnv": {"EnvId": NO_ENV},
    "InvalidParameter.EnvIdMalformed": {"EnvId": "pool", "ComputeEnv": None},
    "InvalidParameter.TaskName": {"TaskName": "a task"},
    "InvalidParameter.TaskNameTooLong": {"TaskName": "t" * 61},
    "InvalidParameterValue.MaxRetryCount": {"MaxRetryCount": 101},
    "InvalidParameterValue.Negative": {"Timeout": -1},
    "InvalidParameterValue.TaskInstanceNum": {"TaskInstanceNum": 0},
}
JOBS: dict[str, Params] = {
    "InvalidParameter.JobDescriptionTooLong": {"JobDescription": "d" * 201},
    "InvalidParameter.JobNameTooLong": {"JobName": "n" * 61},
    "InvalidParameter.NotificationTopicName": told("nobody"),
    "InvalidParameter.NotificationTopicNameTooLong": told("t" * 65),
    "InvalidParameterValue.DependenceNotFoundTaskName": {"Dependences": [{"StartTask": "main", "EndTask": "x"}]},
    "InvalidParameterValue.DependenceUnfeasible": {"Dependences": [{"StartTask": "main", "EndTask": "main"}]},
}


def submission(task: Params | None = None, **job: Any) -> Params:
    return {"Placement": ZONE, "Job": {"Tasks": [{**TASK, **(task or {})}], **job}}


def creation(**env: Any) -> Params:
    return {"Placement": ZONE, "ComputeEnv": {**ENV, **env}}


def template(world: World) -> str:
    request = CreateTaskTemplate.parse({"TaskTemplateName": "t", "TaskTemplateInfo": TASK})
    return world.api.call(request).task_template_id


def of_job(**members: Any) -> Make:
    """A request about a job that is SUBMITTED."""
    return lambda world: {"JobId": world.job(), **members}


def of_bound_job(**members: Any) -> Make:
    """A request about a job whose instances are to run in an environment."""
    return lambda world: {"JobId": world.job(EnvId=world.env(), ComputeEnv=None), **members}


def of_env(**members: Any) -> Make:
    """A request about an environment without nodes."""
    return lambda world: {"EnvId": world.env(), **members}


def of_template(**members: Any) -> Make:
    """A request about a template."""
    return lambda world: {"TaskTemplateId": template(world), **members}


def after(first: Callable[[World], str], params: Params) -> Make:
    """A request after something was made."""

    def make(world: World) -> Params:
        first(world)
        return params

    return make


def _tasks() -> Iterator[Refused]:
    for code, members in TASKS.items():
        # It has no code of its own for this in any list, but the SDK knows it.
        if code in DOCUMENTED["SubmitJob"] or code == "InvalidParameterValue.TaskInstanceNum":
            yield Refused("SubmitJob", code, submission(members))
        task = {**TASK, **members}
        if code in DOCUMENTED["CreateTaskTemplate"]:
            yield Refused("CreateTaskTemplate", code, {"TaskTemplateName": "t", "TaskTemplateInfo": task})
        if code in DOCUMENTED["ModifyTaskTemplate"]:
            yield Refused(
                "ModifyTaskTemplate",
                code,
                of_template(TaskTemplateInfo=task),
            )


def _jobs() -> Iterator[Refused]:
    submit = "SubmitJob"
    for code, members in JOBS.items():
        yield Refused(submit, code, submission(**members))
    yield Refused(
        submit,
        "InvalidParameter.NotificationEventNameDuplicate",
        lambda world: submission(**told(world.emulator.info.topic, events=("JOB_FAILED", "JOB_FAILED"))),
    )
    yield Refused(
        submit, "InvalidParameterValue.UnavailableZone", submission(), {"unavailable_zones": ["ap-guangzhou-3"]}
    )
    yield Refused(submit, "LimitExceeded.JobQuota", after(World.job, submission()), {"job_quota": 1})
    yield Refused(submit, "ResourceNotFound.ComputeEnv", submission({"EnvId": NO_ENV, "ComputeEnv": None}))
    forbidden = "UnauthorizedOperation.UserNotAllowedToUseBatch"
    yield Refused(submit, forbidden, submission(), {"batch_activated": False})
    yield Refused(submit, "InvalidParameterValue", submission({"FailedAction": "GIVE_UP"}))

    instance = {"TaskName": "main", "TaskInstanceIndex": 0}
    measured = {**instance, "MetricName": "CpuUsage"}
    for action, rest in (
        ("DescribeJob", {}),
        ("DescribeJobSubmitInfo", {}),
        ("DescribeJobMonitorData", measured),
        ("DescribeTaskLogs", {"TaskName": "main"}),
        ("TerminateJob", {}),
        ("DeleteJob", {}),
        ("DescribeTask", {"TaskName": "main"}),
        ("TerminateTaskInstance", instance),
    ):
        yield Refused(action, "InvalidParameter.JobIdMalformed", {"JobId": "job", **rest})
        missing = {"DescribeTask": "Task", "TerminateTaskInstance": "TaskInstance"}.get(action, "Job")
        yield Refused(action, f"ResourceNotFound.{missing}", {"JobId": NO_JOB, **rest})
    yield Refused("RetryJobs", "InvalidParameter.JobIdMalformed", {"JobIds": ["job"]})
    yield Refused("RetryJobs", "ResourceNotFound.Job", {"JobIds": [NO_JOB]})
    yield Refused("RetryJobs", "UnsupportedOperation", lambda world: {"JobIds": [world.job()]})
    yield Refused("DeleteJob", "ResourceInUse.Job", of_job())
    for code in ("UnsupportedOperation", "ResourceInUse.Job"):
        yield Refused("TerminateJob", code, of_job(), {"terminate_submitted_error": code})
    for action, rest in (("TerminateJob", {}), ("TerminateTaskInstance", instance)):
        yield Refused(
            action,
            "UnsupportedOperation.TerminateOperationWithEnvId",
            of_bound_job(**rest),
            {"terminate_with_env_id": "refuse"},
        )
    logs = "DescribeTaskLogs"
    yield Refused(logs, "ResourceNotFound.Task", of_job(TaskName="x"))
    for code, index in (("ResourceNotFound.TaskInstance", 1), ("InvalidParameterValue.Negative", -1)):
        yield Refused(
            logs,
            code,
            of_job(TaskName="main", TaskInstanceIndexes=[index]),
        )
    yield Refused(logs, "InvalidParameterValue", of_job(TaskName="main", Limit=11))
    for code in ("InvalidParameter.TaskName", "InvalidParameter.TaskNameTooLong"):
        yield Refused(logs, code, {"JobId": NO_JOB, **TASKS[code]})
    yield Refused(logs, "UnknownParameter", {"JobId": NO_JOB, "TaskName": "main", "Lines": 3})
    yield from listing("DescribeJobs", "JobIds", NO_JOB, "job-name", "InvalidParameter.JobIdMalformed")


def listing(action: str, member: str, some_id: str, name: str, malformed: str) -> Iterator[Refused]:
    """What all listings by ids or filters refuse, as far as the action documents it."""
    filters = [{"Name": name, "Values": ["x"]}]
    unknown = [{"Name": "colour", "Values": ["x"]}]
    nowhere = [{"Name": "zone", "Values": ["nowhere"]}]
    made = [
        Refused(action, malformed, {member: ["x"]}),
        Refused(action, "InvalidParameter.InvalidParameterCombination", {member: [some_id], "Filters": filters}),
        Refused(action, "InvalidParameterValue", {"Limit": 101}),
        Refused(action, "InvalidZone.MismatchRegion", {"Filters": nowhere}),
        Refused(action, "UnknownParameter", {"Page": 1}),
        Refused(action, "InvalidParameterValue.LimitExceeded", {"Filters": [{"Name": name, "Values": ["x"] * 101}]}),
        *(
            Refused(action, code, {"Filters": unknown}, {"unknown_filter_error": code})
            for code in ("InvalidFilter", "InvalidParameterValue.InvalidFilter")
        ),
    ]
    yield from (row for row in made if row.code in DOCUMENTED[action])


def _templates() -> Iterator[Refused]:
    create, modify = "CreateTaskTemplate", "ModifyTaskTemplate"
    for code, name in (
        ("InvalidParameter.TaskTemplateName", " "),
        ("InvalidParameter.TaskTemplateNameTooLong", "n" * 61),
    ):
        yield Refused(create, code, {"TaskTemplateName": name, "TaskTemplateInfo": TASK})
        yield Refused(modify, code, of_template(TaskTemplateName=name))
    made = {"TaskTemplateName": "t", "TaskTemplateInfo": TASK}
    yield Refused(
        create,
        "LimitExceeded.TaskTemplateQuota",
        after(template, made),
        {"task_template_quota": 1},
    )
    yield Refused(
        modify,
        "InvalidParameter.TaskTemplateDescriptionTooLong",
        of_template(TaskTemplateDescription="d" * 201),
    )
    yield Refused(modify, "InvalidParameterAtLeastOneAttribute", of_template())
    for some_id, code in (
        ("x", "InvalidParameter.TaskTemplateIdMalformed"),
        (NO_TEMPLATE, "ResourceNotFound.TaskTemplate"),
    ):
        yield Refused(modify, code, {"TaskTemplateId": some_id, "TaskTemplateName": "t"})
        yield Refused("DeleteTaskTemplates", code, {"TaskTemplateIds": [some_id]})
    yield from listing(
        "DescribeTaskTemplates",
        "TaskTemplateIds",
        NO_TEMPLATE,
        "task-template-name",
        "InvalidParameter.TaskTemplateIdMalformed",
    )


def _common() -> Iterator[Refused]:
    """Codes that all actions have in common, each once."""
    yield Refused("DescribeJob", "MissingParameter", {})
    yield Refused("DescribeJob", "InvalidParameter", {"JobId": 1})
    yield Refused("CreateFlyingSaucer", "InvalidAction", {})
    yield Refused("DescribeJobs", "NoSuchProduct", {}, service="cvm")
    yield Refused("DescribeJobs", "RequestSizeLimitExceeded", {"JobIds": [NO_JOB]}, {"max_request_bytes": 10})
    yield Refused("DescribeJobs", "AuthFailure.SignatureExpire", {}, {"clock_skew_seconds": 1000})


REFUSED = [*_tasks(), *_jobs(), *_templates(), *_common()]
