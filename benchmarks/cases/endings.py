"""Jobs end: how long until their waits know, and what that cost in requests."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.meters import statistics_of
from benchmarks.servers import Emulator
from benchmarks.waits import Waits, trigger_maker

#: Actions that are no part of waiting.
_SUBMITTING = ("batch.SubmitJob",)

#: Seconds beyond the last end after which a wait counts as lost.
_PATIENCE = 120.0


def main(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the case.

    :param parameters: ``server``, the emulator's ready line; ``job_ids``; ``poll_interval``; ``end_by``, when the last
        job ends (unix seconds); ``start_pause``, seconds between two waits, as their jobs were submitted.
    """
    return asyncio.run(_run(**parameters))


async def _run(
    server: dict[str, Any], job_ids: list[str], poll_interval: float, end_by: float, start_pause: float
) -> dict[str, Any]:
    service = Emulator(server)
    before = await asyncio.to_thread(service.calls)
    waits = Waits(trigger_maker("ours", poll_interval))
    for job_id in job_ids:
        await waits.start([job_id])
        if start_pause:
            await asyncio.sleep(start_pause)
    await waits.until(len(job_ids), end_by - time.time() + _PATIENCE)
    after = await asyncio.to_thread(service.calls)
    ends = await asyncio.to_thread(service.ends)
    calls = {name: count - before.get(name, 0) for name, count in after.items() if name not in _SUBMITTING}
    calls = {name: count for name, count in calls.items() if count}
    codes = [call["code"] for call in await asyncio.to_thread(service.call_log)]
    payloads = waits.payloads.values()
    return {
        "jobs": len(job_ids),
        **statistics_of((waits.ended[job_id] - ends[job_id] for job_id in job_ids), "s"),
        "by_event": sum(payload.get("source") == "event" for payload in payloads),
        "errors": sum(payload.get("status") != "ended" for payload in payloads),
        "throttled": sum("LimitExceeded" in code for code in codes),
        "calls": calls,
        "calls_per_job": round(sum(calls.values()) / len(job_ids), 3),
    }
