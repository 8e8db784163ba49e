"""What Airflow learns about this package without importing any of it."""

from __future__ import annotations

from typing import Any

from airflow_provider_tcbatch import __version__

__all__ = ["get_provider_info"]

_NAME = "Tencent Cloud Batch"


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["string", "null"], **schema},
    }


def _choice(label: str, description: str, *values: str) -> dict[str, Any]:
    return _text(label, description, enum=[None, *values])


def _connection_fields() -> dict[str, Any]:
    """The form of the connection: sections stand in the order of their first fields."""
    sections: dict[str, dict[str, Any]] = {
        "Where": {
            "region": _text(
                "Region", "Of jobs and buckets, such as ap-guangzhou. Needed, unless each operator names its own."
            ),
            "zone": _text("Zone", "Availability zone for jobs that name none, such as ap-guangzhou-3."),
        },
        "Keys": {
            "credentials": _choice(
                "Where keys come from",
                "Empty: SecretId and SecretKey above if they are set, else default (environment, profile, role).",
                *("keys", "default", "environment", "profile", "cvm_role", "tke_oidc"),
            ),
            "token": _text("Session token", "Token of temporary keys (STS).", format="password"),
            "profile": _text("Profile", "Profile of a credentials file; default is default."),
            "cvm_role": _text("CVM role", "CAM role of the CVM instance; default the one that is bound."),
            "role_arn": _text("Role to assume", "qcs::cam::uin/<account>:roleName/<role>"),
            "role_session_name": _text("Role session name", "What audit logs call this use of the role."),
            "role_duration": _text("Role duration", "Seconds that a role's keys hold; default 7200."),
        },
        "Events": {
            "event_topic": _text(
                "Event topic", "Name of the TDMQ CMQ topic that jobs publish to. Empty: waits poll only."
            ),
            "event_queue": _text(
                "Shared event queue", "Name of one queue for all triggerers. Empty: each makes its own."
            ),
        },
        "Limits and marks": {
            "api_limits": _text(
                "API limits",
                'Requests a second: cn (default), intl, or JSON such as {"DescribeJobs": 5}.',
                examples=["cn", "intl"],
            ),
            "api_share": _text("API share", "Part of these rates that one process takes, 0 to 1; default 0.5."),
            "ownership_mark": _choice(
                "Ownership mark",
                "Where a job says which task it belongs to; default tag. name: where the keys may not set tags.",
                *("tag", "name", "none"),
            ),
        },
        "Addresses and network": {
            "root_domain": _text(
                "Root domain",
                "tencentcloudapi.com, or intl.tencentcloudapi.com for the international site.",
                examples=["tencentcloudapi.com", "intl.tencentcloudapi.com"],
            ),
            "endpoint": _text("Batch endpoint", "Host or URL; default batch.tencentcloudapi.com."),
            "tdmq_endpoint": _text("TDMQ endpoint", "Host or URL of the TDMQ API; default beside Batch's."),
            "cmq_endpoint": _text("CMQ address", "The console's 'API request address' of CMQ."),
            "cos_endpoint": _text("COS address", "URL of another COS server; default the public one."),
            "sts_endpoint": _text("STS endpoint", "Host or URL; default sts.tencentcloudapi.com."),
            "proxy": _text("Proxy", "URL of a HTTP proxy for all requests."),
            "ca_file": _text("CA file", "PEM file of the authorities to trust; default the usual ones."),
        },
        "Console": {
            "console_url": _text("Job page", "Template of its address, with {job_id}, {region} and {rid}."),
            "console_env_url": _text("Compute environment page", "The same, with {env_id}."),
            "console_template_url": _text("Task template page", "The same, with {task_template_id}."),
            "console_cos_url": _text("COS folder page", "The same, with {bucket}, {path} and {region}."),
        },
    }
    fields = {}
    for section, members in sections.items():
        for name, field in members.items():
            # The name too: it is what the documentation and Extra call the field.
            fields[name] = {
                **field,
                "label": f"{field['label']} ({name})",
                "schema": {**field["schema"], "section": section},
            }
    return fields


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description in Airflow's ``provider_info`` schema."""
    return {
        "package-name": "airflow-provider-tcbatch",
        "name": _NAME,
        "description": "Tencent Cloud Batch: jobs, compute environments, task templates and their events.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://cloud.tencent.com/document/product/599",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": _NAME,
                "python-modules": [
                    "airflow_provider_tcbatch.operators.compute_env",
                    "airflow_provider_tcbatch.operators.compute_env_actions",
                    "airflow_provider_tcbatch.operators.compute_env_ensure",
                    "airflow_provider_tcbatch.operators.event_delivery",
                    "airflow_provider_tcbatch.operators.job",
                    "airflow_provider_tcbatch.operators.job_actions",
                    "airflow_provider_tcbatch.operators.orphans",
                    "airflow_provider_tcbatch.operators.compute_env_setup",
                    "airflow_provider_tcbatch.operators.task_template_setup",
                    "airflow_provider_tcbatch.operators.task_instance",
                    "airflow_provider_tcbatch.operators.task_template",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": _NAME,
                "python-modules": [
                    "airflow_provider_tcbatch.sensors.compute_env",
                    "airflow_provider_tcbatch.sensors.event",
                    "airflow_provider_tcbatch.sensors.job",
                    "airflow_provider_tcbatch.sensors.task",
                    "airflow_provider_tcbatch.sensors.task_instance",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": _NAME,
                "python-modules": [
                    "airflow_provider_tcbatch.hooks.tencent_cloud",
                    "airflow_provider_tcbatch.hooks.batch",
                    "airflow_provider_tcbatch.hooks.cmq",
                    "airflow_provider_tcbatch.hooks.cos",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": _NAME,
                "python-modules": [
                    "airflow_provider_tcbatch.triggers.api",
                    "airflow_provider_tcbatch.triggers.compute_env",
                    "airflow_provider_tcbatch.triggers.event",
                    "airflow_provider_tcbatch.triggers.event_wait",
                    "airflow_provider_tcbatch.triggers.job",
                    "airflow_provider_tcbatch.triggers.jobs",
                    "airflow_provider_tcbatch.triggers.message",
                    "airflow_provider_tcbatch.triggers.states",
                ],
            }
        ],
        "extra-links": [
            "airflow_provider_tcbatch.links.TCBatchComputeEnvLink",
            "airflow_provider_tcbatch.links.TCBatchJobLink",
            "airflow_provider_tcbatch.links.TCBatchLogsLink",
            "airflow_provider_tcbatch.links.TCBatchTaskTemplateLink",
        ],
        # Left out by Airflow, without a word in the log, where the common.messaging provider is missing.
        "queues": ["airflow_provider_tcbatch.queues.tencent_cmq.TencentCmqMessageQueueProvider"],
        "cli": ["airflow_provider_tcbatch.cli.get_cli_commands"],
        "config": {
            "tcbatch": {
                "description": "Jobs of Tencent Cloud Batch.",
                "options": {
                    "deployment_id": {
                        "description": "Tells this Airflow from others that use the same Tencent Cloud account: it is "
                        "part of the mark of each job, environment and template, by which they are found again, and "
                        "ended, and of the names of triggerers' event queues. Two Airflows with DAGs of the same names "
                        "need different ones. Letters, digits, spaces and ``+-=.:@_``.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                    "api_patience": {
                        "description": "For how many seconds a task goes on while the API of Batch can't be asked (it "
                        "is down, can't be reached, does not answer, or throttles), where no ``timeout``, "
                        "``execution_timeout`` or other limit of the task's own decides. Then the task fails, and its "
                        "job is not ended for that.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "7200",
                        "default": "3600",
                    },
                    "deferral_hold": {
                        "description": "Least seconds that a task stays deferred, counted from the start of its "
                        "trigger, however soon its job ends. By itself the provider waits for the end of the process "
                        "that deferred the task where it can see it, and else for as long as that may take. A larger "
                        "value helps where tasks still fail with ``state mismatch`` although their jobs succeeded: a "
                        "scheduler whose rounds take many seconds, or task logs that take long to be uploaded.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "15",
                        "default": "0",
                    },
                    "explain_timeout": {
                        "description": "For how many seconds at most a worker reads what explains an end: instances of "
                        "a job, what they printed (from COS, where it is redirected), their exit codes. Then it "
                        "says what is known by then. What is left of a streamed output when its job has ended is read "
                        "for as long at most.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "60",
                        "default": "30",
                    },
                },
            }
        },
        "connection-types": [
            {
                "connection-type": "tencentcloud",
                "hook-name": "Tencent Cloud",
                "hook-class-name": "airflow_provider_tcbatch.hooks.tencent_cloud.TencentCloudHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "port", "schema"],
                    "relabeling": {"login": "SecretId", "password": "SecretKey"},
                    "placeholders": {"login": "AKID...", "extra": '{"region": "ap-guangzhou"}'},
                },
                "conn-fields": _connection_fields(),
            }
        ],
    }
