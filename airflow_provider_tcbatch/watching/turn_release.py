"""Letting through, at a rate, those who wait in a triggerer to send what the service has refused for its rate."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from airflow_provider_tcbatch.client.background import Alarm, spawn
from airflow_provider_tcbatch.client.limits import rate_of

__all__ = ["Release", "ReleaseRate"]


class ReleaseRate:
    """How many to let through a second: additive increase, multiplicative decrease.

    It begins with this process's share of the rate, grows with each that is let through, and halves when another one
    comes, at most once a second: a worker has been refused just now.

    :param rate: requests a second that the service takes of the account.
    :param share: this process's part of it, 0 to 1.
    """

    def __init__(self, rate: float, share: float) -> None:
        self._least, self._most = rate * share / 4, rate
        self._value = rate * share
        self._halved_at = float("-inf")

    def come(self, now: float) -> None:
        """Another one has come, who was refused."""
        if now - self._halved_at >= 1.0:
            self._halved_at = now
            self._value = max(self._least, self._value / 2)

    def pause(self) -> float:
        """One is let through: seconds until the next."""
        pause = 1.0 / self._value
        self._value = min(self._most, self._value * 1.05)
        return pause


class _Line:
    def __init__(self, rate: ReleaseRate) -> None:
        self.rate = rate
        #: Who waits, in the order in which they came, and whether it is let through.
        self.waiting: dict[Alarm, bool] = {}
        self.task: asyncio.Task[None] | None = None


class Release:
    """Those who wait in this process, by the action that they want to send. It must be used from one event loop.

    :param limits: requests a second by action.
    :param share: this process's part of them, 0 to 1.
    """

    def __init__(self, limits: Mapping[str, float], share: float) -> None:
        self._limits = limits
        self._share = share
        self._lines: dict[str, _Line] = {}

    async def let_through(self, action: str, timeout: float) -> bool:
        """Wait to be let through: first come, first served; whether that was within ``timeout`` seconds."""
        line = self._lines.get(action)
        if line is None:
            line = self._lines[action] = _Line(ReleaseRate(rate_of(action, self._limits), self._share))
        alarm = Alarm()
        line.rate.come(asyncio.get_running_loop().time())
        line.waiting[alarm] = False
        if line.task is None or line.task.done():
            line.task = spawn(self._go_on(line), f"tcbatch-release-{action}")
        try:
            await alarm.sleep(timeout)
            return line.waiting[alarm]
        finally:
            del line.waiting[alarm]

    async def _go_on(self, line: _Line) -> None:
        while True:
            await asyncio.sleep(line.rate.pause())
            first = next((alarm for alarm, through in line.waiting.items() if not through), None)
            if first is None:
                return
            line.waiting[first] = True
            first.ring()

    async def aclose(self) -> None:
        """Let nobody through any more."""
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
