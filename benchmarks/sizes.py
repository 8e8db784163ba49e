"""How much is measured: for a real run, and for one that only shows that everything works."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """Numbers of waits and seconds.

    :param rounds: how often both sides are measured, one after the other; medians are told.
    :param short_rounds: the same for what takes seconds only: imports, DAG files.
    :param worker_rounds: the same for what a task costs a worker: a process for each side and round.
    :param peer_waits: waits of the peer; many more do not fit into a machine's memory.
    :param waits: waits of ours that the targets are for.
    :param scale: numbers of waits for the chart.
    :param hold_seconds: how long waits are held.
    :param poll_interval: seconds, for held waits.
    :param event_jobs: jobs whose ends are told by events.
    :param event_spread: seconds within which they end.
    :param submit_rate: jobs a second that are submitted before they are waited for; 0 for as many as possible.
    :param poll_jobs: jobs whose ends are found by polling alone.
    :param polled_interval: seconds between two looks at them.
    :param poll_age: seconds for which they have been waited for when the first one ends.
    :param poll_spread: seconds within which they end.
    :param tasks: tasks in a DAG file.
    :param ceiling_seconds: how long the emulator is asked as often as it can answer.
    :param margin: seconds that the start of a process and of its waits may take, where jobs end at a given moment.
    :param triggerer_rounds: numbers of waits under a real triggerer, and how often each is measured with each kind of
        trigger: short starts differ most from one to the next.
    :param stored_rounds: the same where the connection is in the database.
    :param loud_rounds: how often loud jobs beside a quiet one are measured.
    :param loud_waits: waits that show what their jobs print.
    :param loud_bytes: what each of these prints.
    :param storm_processes: numbers of processes that submit jobs at once.
    :param storm_jobs: jobs of each.
    :param storm_rounds: how often that is measured.
    """

    rounds: int
    short_rounds: int
    worker_rounds: int
    peer_waits: int
    waits: int
    scale: tuple[int, ...]
    hold_seconds: float
    poll_interval: float
    event_jobs: int
    event_spread: float
    submit_rate: float
    poll_jobs: int
    polled_interval: float
    poll_age: float
    poll_spread: float
    tasks: int
    ceiling_seconds: float
    margin: float
    triggerer_rounds: dict[int, int]
    stored_rounds: dict[int, int]
    loud_rounds: int
    loud_waits: int
    loud_bytes: int
    storm_processes: tuple[int, ...]
    storm_jobs: int
    storm_rounds: int


FULL = Sizes(
    rounds=3,
    short_rounds=5,
    worker_rounds=11,
    peer_waits=200,
    waits=10_000,
    scale=(100, 1_000, 10_000, 50_000),
    hold_seconds=60,
    poll_interval=10,
    event_jobs=1_000,
    event_spread=10,
    submit_rate=20,
    poll_jobs=5_000,
    polled_interval=30,
    poll_age=60,
    poll_spread=60,
    tasks=500,
    ceiling_seconds=5,
    margin=30,
    triggerer_rounds={1_000: 4, 5_000: 3},
    stored_rounds={5_000: 2},
    loud_rounds=2,
    loud_waits=100,
    loud_bytes=3_000_000,
    storm_processes=(2, 16, 32, 64),
    storm_jobs=10,
    storm_rounds=3,
)

QUICK = Sizes(
    rounds=1,
    short_rounds=1,
    worker_rounds=1,
    peer_waits=3,
    waits=20,
    scale=(10, 20),
    hold_seconds=4,
    poll_interval=1,
    event_jobs=10,
    event_spread=1,
    submit_rate=0,
    poll_jobs=10,
    polled_interval=1,
    poll_age=1,
    poll_spread=1,
    tasks=5,
    ceiling_seconds=0.3,
    margin=20,
    triggerer_rounds={20: 1},
    stored_rounds={20: 1},
    loud_rounds=1,
    loud_waits=3,
    loud_bytes=300_000,
    storm_processes=(2, 4),
    storm_jobs=2,
    storm_rounds=1,
)
