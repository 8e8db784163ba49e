"""A service with a rate, and processes that send to it: a model in which time is a number."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass

from airflow_provider_tcbatch.policies.contention import ContendedRate

#: Shortest and longest time that a request takes, in seconds.
_LATENCY = (0.01, 0.04)


class Service:
    """Takes so many requests in any second; refused ones do not count."""

    def __init__(self, rate: int) -> None:
        self._accepted: deque[float] = deque(maxlen=rate)
        self.most = rate

    def asked(self, now: float) -> bool:
        """Whether a request is accepted."""
        if len(self._accepted) == self.most and now - self._accepted[0] < 1.0:
            return False
        self._accepted.append(now)
        return True


@dataclass
class Storm:
    """What came of it.

    :param seconds: until the last request was accepted.
    :param requests: sent in all.
    :param longest: seconds that somebody waited for one to be accepted.
    """

    seconds: float
    requests: int
    longest: float


def storm(processes: int, jobs: int, *, rate: int = 20, share: float = 0.5, seed: int = 0) -> Storm:
    """Let processes begin at once, and each send so many requests, one after the other."""
    chance = random.Random(seed)
    service = Service(rate)
    clients = [ContendedRate(rate, share, chance.random) for _ in range(processes)]
    left = [jobs] * processes
    since = [0.0] * processes
    queue = [(chance.uniform(0, 0.05), number) for number in range(processes)]
    heapq.heapify(queue)
    seconds = longest = 0.0
    requests = 0
    while queue:
        now, number = heapq.heappop(queue)
        client = clients[number]
        if pause := client.wait(now):
            heapq.heappush(queue, (now + pause, number))
            continue
        claim = client.claim(now)
        latency = chance.uniform(*_LATENCY)
        requests += 1
        answered = now + latency
        # Requests overtake one another by less than the service's window differs for it.
        if service.asked(now + latency / 2):
            client.accepted(claim, answered)
            seconds, longest = max(seconds, answered), max(longest, answered - since[number])
            since[number] = answered
            left[number] -= 1
        else:
            client.refused(claim, answered)
        if left[number]:
            heapq.heappush(queue, (answered, number))
    return Storm(seconds, requests, longest)
