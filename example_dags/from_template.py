"""Jobs from task templates: what is always the same stands in a template, each job says what is different.

``template`` makes the template, or changes what differs from what is written here; look at its log after you have
changed something. ``count`` then runs one job for each text. Change ``texts`` when you trigger it.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.task_template import TCBatchEnsureTaskTemplateOperator

NAME = "example-count-words"


@dag(
    schedule=None,
    params={"texts": Param(["to be or not to be", "a rose is a rose"], type="array", items={"type": "string"})},
    tags=["tencent batch", "example"],
)
def from_template() -> None:
    template = TCBatchEnsureTaskTemplateOperator(
        task_id="template",
        name=NAME,
        description="Counts the words of a text",
        task={
            "TaskName": "count",
            "Application": {"DeliveryForm": "LOCAL", "Command": 'echo "$LABEL: $(echo "$TEXT" | wc -w) words"'},
            "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
            "EnvVars": [{"Name": "TEXT", "Value": ""}, {"Name": "LABEL", "Value": "counted"}],
            "MaxRetryCount": 1,
            "Timeout": 600,
        },
    )

    @task
    def plan(params: dict[str, Any]) -> list[dict[str, Any]]:
        """One job per text: the template, with the text put into its environment."""
        return [
            {"Tasks": [{"TaskTemplateName": NAME, "EnvVars": [{"Name": "TEXT", "Value": text}]}]}
            for text in params["texts"]
        ]

    jobs = plan()
    count = TCBatchSubmitJobOperator.partial(task_id="count", deferrable=True, logs="all").expand(job=jobs)
    template >> count


DAG = from_template()
