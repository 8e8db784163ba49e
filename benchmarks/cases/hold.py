"""Many waits start, are held, and end all at once: memory, processor time, requests and stalls of the loop."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

from benchmarks.meters import LoopLag, own_memory, settle
from benchmarks.servers import Emulator, PeerApi
from benchmarks.waits import Waits, trigger_maker

#: Seconds after the last wait has started that count as its start: it has been looked at then.
_STARTING = 5.0

#: Enough for a sweep to begin anew, in poll intervals.
_SWEEPS = 2


def main(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the case.

    :param parameters: ``side``; ``server``, the ready line of what is asked; ``job_ids``, the first of which only warms
        up; ``poll_interval``; ``seconds`` to hold the waits; ``end_at``, when all jobs end (unix seconds), if they do.
    :returns: figures; ``{"late": True}`` if there was not enough time until ``end_at``.
    """
    return asyncio.run(_run(**parameters))


async def _run(
    side: str,
    server: dict[str, Any],
    job_ids: list[str],
    poll_interval: float,
    seconds: float,
    end_at: float | None = None,
) -> dict[str, Any]:
    first, *ids = job_ids
    service: Emulator | PeerApi = Emulator(server) if side == "ours" else PeerApi(server)
    waits = Waits(trigger_maker(side, poll_interval))
    # The first wait imports clients, reads certificates and opens connections; that is paid once a process.
    await waits.start([first])
    await asyncio.sleep(3.0)
    settle()
    gc.disable()
    memory, cpu, begun = own_memory(), time.process_time(), time.monotonic()
    async with LoopLag() as lag:
        await waits.start(ids)
        started = time.monotonic() - begun
        await asyncio.sleep(_STARTING)
    start_stall = lag.take()
    gc.enable()
    await asyncio.sleep(max(0.0, seconds - _SWEEPS * poll_interval - (time.monotonic() - begun)))
    before = await asyncio.to_thread(_requests, service)
    await asyncio.sleep(_SWEEPS * poll_interval)
    after = await asyncio.to_thread(_requests, service)
    used = time.process_time() - cpu
    collecting = time.thread_time()
    gc.collect()
    result = {
        # What a pass of the collector over all waits takes: the loop stands still meanwhile.
        "collector_pass_ms": round(1000 * (time.thread_time() - collecting), 1),
        "waits": len(ids),
        "memory_kb_per_wait": round((own_memory() - memory) / 1024 / len(ids), 2),
        "start_seconds": round(started, 3),
        "cpu_ms_per_wait": round(1000 * used / len(ids), 4),
        "held_seconds": round(time.monotonic() - begun, 1),
        "requests_per_poll_interval": round((after - before) / _SWEEPS, 1),
        "start_stall": start_stall,
    }
    if isinstance(service, Emulator):
        result["requests_per_sweep"] = await asyncio.to_thread(_requests_per_sweep, service, len(job_ids))
    if isinstance(service, Emulator) and end_at is not None and time.time() > end_at - 5.0:
        return {"late": True}
    if end_at is not None:
        result["end_stall"] = await _end(service, waits, job_ids, end_at)
    await waits.cancel()
    return result


def _requests(service: Emulator | PeerApi) -> int:
    return service.calls().get("batch.DescribeJobs", 0) if isinstance(service, Emulator) else service.requests()


def _requests_per_sweep(service: Emulator, jobs: int) -> float:
    """How many requests it takes to look at every job once."""
    looks = [len(set(call["job_ids"])) for call in service.call_log() if call["action"] == "DescribeJobs"]
    last = looks[-max(20, -(-jobs // 100)) :]
    return round(len(last) * jobs / sum(last), 2) if sum(last) else 0.0


async def _end(service: Emulator | PeerApi, waits: Waits, job_ids: list[str], end_at: float) -> dict[str, float]:
    """All jobs end in one moment: see how the loop takes it."""
    if isinstance(service, PeerApi):
        settle()
        gc.disable()
        begun = time.monotonic()
        await asyncio.to_thread(service.succeed)
        async with LoopLag() as lag:
            await waits.until(len(job_ids), 300)
    else:
        await asyncio.sleep(end_at - 3.0 - time.time())
        # Nobody gets an answer while the jobs end, which takes the emulator some seconds.
        fault = {"kind": "slow", "action": "DescribeJobs", "seconds": min(25.0, 8.0 + len(job_ids) / 2000)}
        await asyncio.to_thread(service.control, "faults", "POST", fault)
        deadline = time.monotonic() + 120
        while len(await asyncio.to_thread(service.ends)) < len(job_ids):
            if time.monotonic() > deadline:
                raise TimeoutError("The jobs have not ended")
            await asyncio.sleep(0.5)
        await asyncio.to_thread(service.control, "faults", "DELETE")
        settle()
        gc.disable()
        begun = time.monotonic()
        async with LoopLag() as lag:
            await _announce(job_ids)
            await waits.until(len(job_ids), 300)
    result = lag.take()
    return {**result, "seconds": round(time.monotonic() - begun, 2)}


async def _announce(job_ids: list[str]) -> None:
    """As if the events of all these jobs came in one moment."""
    from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
    from airflow_provider_tcbatch.waits.sessions import job_watcher

    settings = await TencentCloudHook().asettings()
    async with job_watcher(settings) as watcher:
        for job_id in job_ids:
            watcher.hint(job_id, "JOB_SUCCEED", time.time())
