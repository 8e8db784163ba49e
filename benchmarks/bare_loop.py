"""Table 1: what waits cost in a bare event loop, beside the peer's."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import child
from benchmarks.batch_client import job, submit_many
from benchmarks.figures import Figure
from benchmarks.servers import Emulator, PeerApi, emulator, peer_api
from benchmarks.sizes import Sizes

__all__ = ["BareLoop"]

Say = Callable[[str], None]
Result = dict[str, Any]

_OURS = "AIRFLOW_CONN_TENCENTCLOUD_DEFAULT"
_PEER = "AIRFLOW_CONN_AWS_DEFAULT"

#: Jobs of this many seconds do not end while they are waited for.
_LONG = 1_000_000

#: As if the service had no limits.
_NO_LIMITS = json.dumps({"DescribeJobs": 100_000, "DescribeJob": 100_000})


class BareLoop:
    """Measures and keeps what it measured.

    :param sizes: how much.
    :param say: takes a line about what is being done.
    :param peer: whether the peer is measured, too.
    """

    def __init__(self, sizes: Sizes, say: Say, *, peer: bool = True) -> None:
        self._sizes = sizes
        self._peer = peer
        self._say = say
        #: Figures of the table.
        self.figures: list[Figure] = []
        #: What held waits cost, by their number.
        self.scaling: list[Result] = []
        #: What the cases returned.
        self.raw: dict[str, Any] = {}

    def measure(self) -> None:
        """Measure everything."""
        self._imports()
        self._dag_files()
        self._held_waits()
        self._all_end()
        self._events()
        self._polling("cn", 31)
        self._polling("intl", 40)

    # -- held waits --------------------------------------------------------------------------------------

    def _held_waits(self) -> None:
        sizes = self._sizes
        peers: list[Result] = []
        ours: list[Result] = []
        with emulator({"simulated_seconds": _LONG, "call_log_size": 5_000}) as service, peer_api() as peer:
            most = max(*sizes.scale, sizes.waits)
            self._say(f"{most:,} jobs are submitted to the emulator")
            begun = time.monotonic()
            ids = submit_many(service.info, [job] * (most + 1))
            submissions = round((most + 1) / (time.monotonic() - begun), 1)
            self._say("the emulator's own ceiling")
            asked = {"server": service.info, "job_ids": ids[:100], "seconds": sizes.ceiling_seconds}
            ceiling = {**child.run("ceiling", asked), "submissions_per_second": submissions}
            for number in range(sizes.rounds):
                self._say(f"round {number + 1}: {sizes.peer_waits:,} waits of the peer, then {sizes.waits:,} of ours")
                if self._peer:
                    peers.append(self._hold_peer(peer))
                ours.append(self._hold_ours(service, ids[: sizes.waits + 1]))
            for count in sizes.scale:
                if count != sizes.waits:
                    self._say(f"{count:,} waits are held")
                    self.scaling.append(self._hold_ours(service, ids[: count + 1]))
            self.scaling.append(ours[-1])
            self.scaling.sort(key=lambda result: int(result["waits"]))
        self.raw |= {"held": {"peer": peers, "ours": ours}, "emulator_ceiling": ceiling}
        self._tell_held(peers, ours)

    def _hold_ours(self, service: Emulator, ids: Sequence[str], **more: Any) -> Result:
        parameters = {"side": "ours", "server": service.info, "job_ids": list(ids), **self._hold(), **more}
        # With the API's limits 10,000 jobs can't be looked at every 10 s, and would cost less than is claimed.
        return child.run("hold", parameters, environment={_OURS: service.connection(api_limits=_NO_LIMITS)})

    def _hold_peer(self, service: PeerApi) -> Result:
        ids = [f"job-{number}" for number in range(self._sizes.peer_waits + 1)]
        parameters = {"side": "peer", "server": service.info, "job_ids": ids, **self._hold()}
        return child.run("hold", parameters, environment={_PEER: service.connection})

    def _hold(self) -> dict[str, float]:
        return {"poll_interval": self._sizes.poll_interval, "seconds": self._sizes.hold_seconds}

    def _tell_held(self, peers: list[Result], ours: list[Result]) -> None:
        def of(member: str) -> float:
            return _median(ours, member)

        def peer(member: str, scale: float = 1.0) -> float | None:
            return _median(peers, member) * scale if peers else None

        waits, few = self._sizes.waits, self._sizes.peer_waits
        self.figures += [
            Figure(
                "memory_kb_per_wait",
                f"memory per waiting job, {waits:,} waits",
                "KB",
                of("memory_kb_per_wait"),
                peer("memory_kb_per_wait"),
                10,
                note=f"peer: {few:,} waits",
            ),
            Figure(
                "requests_per_sweep",
                f"requests to look at {waits:,} running jobs once",
                "",
                of("requests_per_sweep"),
                waits,
                # The one that warmed up is watched, too.
                math.ceil((waits + 1) / 100),
                note="peer: one each",
            ),
            Figure(
                "cpu_ms_per_wait",
                f"CPU to start a wait and hold it for {self._sizes.hold_seconds:g} s, looking every "
                f"{self._sizes.poll_interval:g} s, as if the API had no limits",
                "ms",
                of("cpu_ms_per_wait"),
                peer("cpu_ms_per_wait"),
                1 / 50,
                target_of_ratio=True,
                note=f"peer: {few:,} waits",
            ),
            Figure(
                "start_seconds",
                f"{waits:,} waits start",
                "s",
                of("start_seconds"),
                peer("start_seconds", waits / few),
                note=f"peer: extrapolated from {few:,}",
            ),
            *self._stall("start_stall", f"while {waits:,} waits start", ours, peers, f"peer: {few:,} waits"),
        ]

    def _stall(self, key: str, when: str, ours: list[Result], peers: list[Result], note: str) -> list[Figure]:
        def of(results: list[Result], member: str) -> float | None:
            return statistics.median(result[key][member] for result in results) if results else None

        return [
            Figure(
                f"{key}_{member}",
                f"loop stall {when}, {name}",
                "ms",
                of(ours, member) or 0.0,
                of(peers, member),
                limit,
                note=note,
            )
            for member, name, limit in (("p99_ms", "p99", 20), ("max_ms", "max", 100))
        ]

    # -- all end at once -------------------------------------------------------------------------------------

    def _all_end(self) -> None:
        sizes = self._sizes
        peers: list[Result] = []
        ours: list[Result] = []
        for number in range(sizes.rounds):
            self._say(f"round {number + 1}: {sizes.waits:,} waits end at once")
            if self._peer:
                peers.append(self._end_peer())
            ours.append(self._end_ours())
        self.raw["all_end"] = {"peer": peers, "ours": ours}
        self.figures += self._stall(
            "end_stall",
            f"while {sizes.waits:,} waits end at once, as if the API had no limits",
            ours,
            peers,
            f"peer: {sizes.peer_waits:,} waits, found by polling",
        )

    def _end_peer(self) -> Result:
        sizes = self._sizes
        ids = [f"job-{number}" for number in range(sizes.peer_waits + 1)]
        with peer_api() as service:
            parameters = {"side": "peer", "server": service.info, "job_ids": ids, "end_at": 0.0, "seconds": 0}
            parameters["poll_interval"] = sizes.poll_interval
            return child.run("hold", parameters, environment={_PEER: service.connection})

    def _end_ours(self) -> Result:
        sizes = self._sizes
        margin = sizes.margin
        while True:
            end_at = time.time() + margin + 2 * sizes.poll_interval + sizes.waits / 400
            with emulator({"call_log_size": 5_000}) as service:
                ids = submit_many(service.info, [_ending(end_at, None)] * (sizes.waits + 1))
                parameters = {"side": "ours", "server": service.info, "job_ids": ids, "end_at": end_at, "seconds": 0}
                parameters["poll_interval"] = sizes.poll_interval
                environment = {_OURS: service.connection(api_limits=_NO_LIMITS)}
                result = child.run("hold", parameters, environment=environment)
            if "late" not in result:
                return result
            margin *= 2
            self._say(f"once more, with {margin:g} s for the start")

    # -- ends that are told one by one -----------------------------------------------------------------------

    def _events(self) -> None:
        sizes = self._sizes
        self._say(f"{sizes.event_jobs:,} jobs end within {sizes.event_spread:g} s, told by events")
        pause = 1 / sizes.submit_rate if sizes.submit_rate else 0.0
        first_end = time.time() + sizes.margin + sizes.event_jobs * max(pause, 0.01)
        result = self._ends(sizes.event_jobs, first_end, sizes.event_spread, "cn", 30, pause=pause, events=True)
        self.raw["by_event"] = result
        jobs = f"{sizes.event_jobs:,} jobs ending within {sizes.event_spread:g} s, DescribeJobs limited to 10/s"
        self.figures += [
            Figure("event_p50_s", f"job's end → TriggerEvent by event, {jobs}, p50", "s", result["p50_s"], None, 0.3),
            Figure("event_p99_s", "the same, p99", "s", result["p99_s"], None, 2),
            Figure(
                "calls_per_job",
                "API calls per job besides SubmitJob, deferred, by event, messages of the queue included",
                "",
                result["calls_per_job"],
                2,
                1.1,
                note="peer: at least 2 polls",
            ),
        ]

    def _polling(self, site: str, target: float) -> None:
        sizes = self._sizes
        rate = {"cn": 10, "intl": 2}[site]
        self._say(f"{sizes.poll_jobs:,} jobs end, found by polling, {rate} requests a second")
        first_end = time.time() + sizes.margin + sizes.poll_jobs / 100 + sizes.poll_age
        result = self._ends(sizes.poll_jobs, first_end, sizes.poll_spread, site, sizes.polled_interval)
        self.raw[f"by_polling_{site}"] = result
        throttled = result["throttled"]
        requests = f"{throttled:,} {'request' if throttled == 1 else 'requests'}"
        note = f"{requests} throttled; peer: {sizes.poll_jobs / rate:,.0f} s for a look at all"
        self.figures.append(
            Figure(
                f"polling_{site}_p99_s",
                f"job's end → TriggerEvent by polling alone, {sizes.poll_jobs:,} jobs, {rate} requests a second, "
                f"poll_interval {sizes.polled_interval:g} s, p99",
                "s",
                result["p99_s"],
                None,
                target,
                note=note,
            )
        )
        errors = "the same, waits that were told of an error"
        self.figures.append(Figure(f"polling_{site}_errors", errors, "", result["errors"], None, 0))

    def _ends(
        self,
        jobs: int,
        first_end: float,
        spread: float,
        site: str,
        poll_interval: float,
        *,
        pause: float = 0.0,
        events: bool = False,
    ) -> Result:
        """Let jobs end evenly within ``spread`` seconds from ``first_end`` on."""
        with emulator({"call_log_size": 50_000}) as service:
            topic = service.info["topic"] if events else None
            ends = [first_end + spread * number / jobs for number in range(jobs)]
            submitted = submit_many(service.info, [_ending(at, topic) for at in ends])
            service.configure(rate_limits=site)
            parameters = {"server": service.info, "job_ids": submitted, "poll_interval": poll_interval}
            parameters |= {"end_by": first_end + spread, "start_pause": pause}
            # The process has the account for itself.
            connection = service.connection(events=events, api_share=1, api_limits=site)
            return child.run("endings", parameters, environment={_OURS: connection})

    # -- DAG files -------------------------------------------------------------------------------------------

    def _imports(self) -> None:
        modules: dict[str, list[str]] = {"submit": ["airflow_provider_tcbatch.operators.job"], "all": []}
        if self._peer:
            modules["peer"] = ["airflow.providers.amazon.aws.operators.batch"]
        self._say("imports")
        results = self._rounds(lambda name: child.run("imports", {"modules": modules[name]}), list(modules))
        self.raw["imports"] = results
        peers = results.get("peer", [])
        peer = _median(peers, "ms") if peers else None
        clients = sorted({name for key in ("submit", "all") for result in results[key] for name in result["clients"]})
        for key, what, limit in (
            ("submit", "importing the submit operator", 60),
            ("all", "importing all operators, sensors and triggers", 100),
        ):
            count = int(_median(results[key], "modules"))
            note = f"{count} modules" + (f", peer {int(_median(peers, 'modules'))}" if peers else "")
            self.figures.append(
                Figure(f"import_{key}_ms", what, "ms", _median(results[key], "ms"), peer, limit, note=note)
            )
        self.figures.append(Figure("import_clients", "client libraries newly imported", "", len(clients), None, 0))

    def _dag_files(self) -> None:
        tasks = self._sizes.tasks
        self._say(f"DAG files of {tasks:,} tasks")
        results = self._rounds(
            lambda name: child.run("dag_files", {"operator": name, "tasks": tasks}),
            ["empty", "ours", *["peer"] * self._peer],
        )
        self.raw["dag_files"] = results

        def of(name: str, member: str) -> float | None:
            return _median(results[name], member) if results[name] else None

        def figure(key: str, what: str, member: str, other: str, target: float | None = None) -> Figure:
            ours = _median(results["ours"], member)
            return Figure(key, what, "ms", ours, of(other, member), target, target_of_ratio=target is not None)

        results.setdefault("peer", [])
        what = f"DAG file with {tasks:,} submit tasks, building one"
        self.figures += [
            figure("parse_ms_per_task", f"{what}, over EmptyOperator", "build_ms_per_task", "empty", 3),
            figure("parse_ms_per_task_peer", f"{what}, over the peer's BatchOperator", "build_ms_per_task", "peer"),
            figure("serialize_ms_per_task_peer", "the same, serializing one", "serialize_ms_per_task", "peer"),
            figure("first_task_ms", "the same, building the first task of a process", "first_ms", "peer"),
        ]

    def _rounds(self, case: Callable[[str], Result], names: Sequence[str]) -> dict[str, list[Result]]:
        """Run cases in turn, so that whatever else the machine does meets all of them."""
        results: dict[str, list[Result]] = {name: [] for name in names}
        for _ in range(self._sizes.short_rounds):
            for name in names:
                results[name].append(case(name))
        return results


def _ending(at: float, topic: str | None) -> Callable[[], dict[str, Any]]:
    """What makes a job that ends at a given moment."""
    return lambda: job(at - time.time(), topic)


def _median(results: list[Result], member: str) -> float:
    return round(statistics.median(float(result[member]) for result in results), 4)
