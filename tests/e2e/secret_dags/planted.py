"""A DAG of which every task sends secrets; all of them come from its environment, and none stands in this file."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cos import CosHook
from airflow_provider_tcbatch.operators.compute_env_ensure import TCBatchEnsureComputeEnvOperator
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.task_template import TCBatchEnsureTaskTemplateOperator

MACHINE = {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}


def planted(name: str) -> str:
    """A secret."""
    return os.environ[f"PLANTED_{name}"]


def job(*, login: str | None = None, docker: str | None = None, **more: Any) -> dict[str, Any]:
    """A job of one task, that prints what it knows and fails."""
    machine = dict(MACHINE) if login is None else {**MACHINE, "LoginSettings": {"Password": login}}
    application = {"DeliveryForm": "LOCAL", "Command": 'echo "out $TOKEN $KEY"; echo "err $TOKEN $KEY" >&2; exit 2'}
    image = {} if docker is None else {"Docker": {"Image": "busybox", "User": "u", "Password": docker}}
    return {
        "Tasks": [
            {"TaskName": "main", "Application": {**application, **image}, "ComputeEnv": {"EnvData": machine}, **more}
        ]
    }


MOUNT = [{"Scene": "COS", "SecretId": "AKIDmount", "SecretKey": planted("AUTHENTICATION")}]
NAMED = [
    {"Name": "TOKEN", "Value": "{{ var.value.service_token }}"},
    {"Name": "KEY", "Value": "{{ conn.registry.extra_dejson.api_key }}"},
]

with DAG("planted", schedule=None, user_defined_macros={"vault": planted}):
    for deferrable in (False, True):
        way = "deferred" if deferrable else "sync"
        options: dict[str, Any] = {"deferrable": deferrable, "poll_interval": 1}
        TCBatchSubmitJobOperator(
            task_id=f"{way}_literal",
            job=job(login=planted("LOGIN"), Authentications=MOUNT, EnvVars=NAMED),
            **options,
        )
        TCBatchSubmitJobOperator(
            task_id=f"{way}_docker",
            job=job(docker=planted("DOCKER"), login="{{ conn.registry.password }}"),
            tencentcloud_conn_id="role",
            **options,
        )
        TCBatchSubmitJobOperator(
            task_id=f"{way}_macro",
            job=job(docker="{{ vault('MACRO') }}"),
            tencentcloud_conn_id="proxied",
            stream_logs=True,
            **options,
        )
    template = TCBatchEnsureTaskTemplateOperator(
        task_id="template",
        name="planted",
        task=job(login=planted("TEMPLATE"))["Tasks"][0],
        tencentcloud_conn_id="temporary",
    )
    from_template = TCBatchSubmitJobOperator(
        task_id="from_template", job={"Tasks": [{"TaskTemplateName": "planted"}]}, deferrable=True, poll_interval=1
    )
    template >> from_template
    TCBatchEnsureComputeEnvOperator(
        task_id="env",
        compute_env={
            "EnvName": "planted",
            "DesiredComputeNodeCount": 0,
            "EnvData": {**MACHINE, "LoginSettings": {"Password": planted("ENV")}},
        },
    )

    @task
    def by_hook() -> None:
        """Send what no operator has seen, by the hook and by the SDK's own client."""
        from tencentcloud.batch.v20170312.batch_client import BatchClient
        from tencentcloud.batch.v20170312.models import SubmitJobRequest
        from tencentcloud.common.profile.client_profile import ClientProfile
        from tencentcloud.common.profile.http_profile import HttpProfile

        hook = TCBatchHook("temporary")
        request = {"Placement": {"Zone": hook.settings.zone}, "Job": {"JobName": "hook", **job(login=planted("HOOK"))}}
        hook.submit_job(request["Job"], zone=hook.settings.zone)
        scheme, place = hook.settings.api.endpoint("batch")
        profile = ClientProfile(httpProfile=HttpProfile(protocol=scheme, endpoint=place))
        typed = SubmitJobRequest()
        typed._deserialize(request)
        BatchClient(hook.api.credentials.get(), hook.settings.api.region, profile).SubmitJob(typed)
        cos = CosHook("temporary")
        cos.put(os.environ["BUCKET"], "planted.txt", "nothing secret")
        cos.get(os.environ["BUCKET"], "planted.txt")

    by_hook()
