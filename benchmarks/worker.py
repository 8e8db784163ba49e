"""Table 3: what a task costs a worker's process, beside the peer's and, if one is named, beside another build."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import child
from benchmarks.batch_client import BatchClient, job
from benchmarks.figures import Figure
from benchmarks.servers import Emulator, PeerApi, emulator, peer_api
from benchmarks.sizes import Sizes

__all__ = ["Worker"]

_OURS = "AIRFLOW_CONN_TENCENTCLOUD_DEFAULT"
_PEER = "AIRFLOW_CONN_AWS_DEFAULT"
#: Read before anything is measured: what reading a connection costs Airflow itself is not counted.
_IDLE = {"AIRFLOW_CONN_BENCHMARK_IDLE": "generic://"}

_STEPS = {
    "submit": "a worker's CPU from importing the operator to the deferral of a submitted job",
    "resume": "a worker's CPU from importing the operator to the end of a task whose job has succeeded",
}


class Worker:
    """Measures and keeps what it measured.

    :param sizes: how much.
    :param say: takes a line about what is being done.
    :param peer: whether the peer is measured, too.
    :param beside: another checkout of this project, which is measured as well.
    """

    def __init__(
        self, sizes: Sizes, say: Callable[[str], None], *, peer: bool = True, beside: Path | None = None
    ) -> None:
        self._sizes = sizes
        self._say = say
        self._peer = peer
        self._beside = beside
        #: Figures of the table.
        self.figures: list[Figure] = []
        #: What the cases returned.
        self.raw: dict[str, Any] = {}

    def measure(self) -> None:
        """Measure everything."""
        sides = ["ours", *["peer"] * self._peer, *["beside"] * (self._beside is not None)]
        settings = {"simulated_seconds": 0}
        with emulator(settings) as service, peer_api() as running, peer_api() as succeeded:
            ended = self._ended_job(service)
            succeeded.succeed()
            for step in _STEPS:
                peer = running if step == "submit" else succeeded
                job_id = None if step == "submit" else ended
                # The first process of each side compiles what has not been run before.
                for side in sides:
                    self._run(side, job_id, service, peer)
                results: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
                for number in range(self._sizes.worker_rounds):
                    self._say(f"round {number + 1}: {step}, a process for each side")
                    for side in sides:
                        results[side].append(self._run(side, job_id, service, peer))
                self.raw[step] = results
                self._tell(step, results)

    def _run(self, side: str, job_id: str | None, service: Emulator, peer: PeerApi) -> dict[str, Any]:
        connection = {_PEER: peer.connection} if side == "peer" else {_OURS: service.connection(events=True)}
        return child.run(
            "worker",
            {"side": "peer" if side == "peer" else "ours", "job_id": job_id},
            environment={**_IDLE, **connection},
            beside=self._beside if side == "beside" else None,
        )

    @staticmethod
    def _ended_job(service: Emulator) -> str:
        client = BatchClient(service.info)
        job_id = client.submit(job(0))
        while client.number_of("SUCCEED") == 0:
            pass
        client.close()
        return job_id

    def _tell(self, step: str, results: dict[str, list[dict[str, Any]]]) -> None:
        def of(side: str) -> float | None:
            return statistics.median(result["cpu_ms"] for result in results[side]) if results.get(side) else None

        def modules(side: str) -> int:
            return int(statistics.median(result["modules"] for result in results[side]))

        ours = of("ours") or 0.0
        note = f"{modules('ours')} modules" + (f", peer {modules('peer')}" if results.get("peer") else "")
        self.figures.append(
            Figure(f"worker_{step}_ms", _STEPS[step], "ms", ours, of("peer"), 0.3, target_of_ratio=True, note=note)
        )
        if self._beside is not None:
            what, note = "the same, over the other build's", f"{modules('beside')} modules"
            self.figures.append(
                Figure(f"worker_{step}_beside_ms", what, "ms", ours, of("beside"), 0.6, target_of_ratio=True, note=note)
            )
