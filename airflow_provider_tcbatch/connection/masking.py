"""What jobs print, without the secrets that this process knows.

Airflow masks a task's log where it is written, by the supervisor of its process. A copy of each line goes to the output
of the executor that runs on the same machine (LocalExecutor's is the scheduler's), and no mask is applied to that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.logs.reader import InstanceOutput

__all__ = ["masked", "masked_output"]


def masked(text: str) -> str:
    """The same text with stars for what Airflow's masker knows in this process: values of connections and Variables."""
    from airflow.sdk._shared.secrets_masker import redact

    return str(redact(text))


def masked_output(output: InstanceOutput) -> InstanceOutput:
    """What an instance printed, likewise."""
    from dataclasses import replace

    return replace(output, stdout=masked(output.stdout), stderr=masked(output.stderr))
