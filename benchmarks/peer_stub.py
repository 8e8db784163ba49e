"""A stub of AWS Batch: every job is RUNNING until all have SUCCEEDED.

It answers ``SubmitJob`` and ``DescribeJobs`` and looks at no signature, so that it costs next to nothing: what is
measured is the client. Run as a program it prints one line of JSON when it is ready.
"""

from __future__ import annotations

import json
import socket
import uuid

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

#: What a job of one container shows when it has ended: the peer's operator looks for its log there.
_ENDED = {
    "stoppedAt": 1_700_000_060_000,
    "container": {
        "image": "busybox",
        "command": ["true"],
        "vcpus": 1,
        "memory": 128,
        "environment": [],
        "exitCode": 0,
        "logStreamName": "definition/default/0123456789abcdef",
    },
}


class Stub:
    """The state of all jobs, and how often it was asked for."""

    def __init__(self) -> None:
        self.requests = 0
        self.status = "RUNNING"

    async def describe_jobs(self, request: Request) -> JSONResponse:
        """POST /v1/describejobs."""
        self.requests += 1
        wanted = json.loads(await request.body())["jobs"]
        jobs = [
            {
                "jobId": job_id,
                "jobArn": f"arn:aws:batch:eu-central-1:123456789012:job/{job_id}",
                "jobName": "one-of-many",
                "jobQueue": "arn:aws:batch:eu-central-1:123456789012:job-queue/queue",
                "jobDefinition": "arn:aws:batch:eu-central-1:123456789012:job-definition/definition:1",
                "status": self.status,
                "startedAt": 1_700_000_000_000,
                "dependsOn": [],
                "parameters": {},
                **(_ENDED if self.status == "SUCCEEDED" else {}),
            }
            for job_id in wanted
        ]
        return JSONResponse({"jobs": jobs})

    async def submit_job(self, request: Request) -> JSONResponse:
        """POST /v1/submitjob."""
        self.requests += 1
        job_id = str(uuid.uuid4())
        arn = f"arn:aws:batch:eu-central-1:123456789012:job/{job_id}"
        name = json.loads(await request.body())["jobName"]
        return JSONResponse({"jobArn": arn, "jobName": name, "jobId": job_id})

    async def count(self, request: Request) -> JSONResponse:
        """GET /_stub/requests."""
        return JSONResponse({"requests": self.requests})

    async def succeed(self, request: Request) -> JSONResponse:
        """POST /_stub/succeed."""
        self.status = "SUCCEEDED"
        return JSONResponse({})


def main() -> None:
    """Serve until terminated."""
    stub = Stub()
    routes = [
        Route("/v1/describejobs", stub.describe_jobs, methods=["POST"]),
        Route("/v1/submitjob", stub.submit_job, methods=["POST"]),
        Route("/_stub/requests", stub.count),
        Route("/_stub/succeed", stub.succeed, methods=["POST"]),
    ]
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"endpoint": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    config = uvicorn.Config(Starlette(routes=routes), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
