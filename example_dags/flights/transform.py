"""Count one shard of the flights: how many each carrier flew in each month, and how late they arrived.

Every instance of the task runs this program. Which shard it reads follows from two variables that Batch sets, so that
the number of instances can be changed in the job alone.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator

from storage import Bucket


def shard(chunks: Iterable[bytes], first: int, last: int) -> Iterator[str]:
    """The lines that begin in ``first < position <= last``, from chunks that begin at ``first``.

    The line that ``first`` lies in belongs to the shard before, which reads on beyond its own end to finish it. With
    that every line is read exactly once, whatever the number of shards; the header, at 0, is read by none.
    """
    position = first
    rest = b""
    skipped = False
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if skipped:
                if position > last:
                    return
                yield line.decode()
            skipped = True
            position += len(line) + 1
    if rest and skipped and position <= last:
        yield rest.decode()


def aggregate(lines: Iterable[str], columns: list[str]) -> dict[str, list[int]]:
    """``{"<carrier> <month>": [flights, flights that arrived, sum of their delays in minutes]}``."""
    carrier, month, delay = (columns.index(name) for name in ("carrier", "month", "arr_delay"))
    groups: dict[str, list[int]] = {}
    for row in csv.reader(lines):
        group = groups.setdefault(f"{row[carrier]} {row[month]}", [0, 0, 0])
        group[0] += 1
        # Cancelled and diverted flights have no arrival.
        if row[delay] not in ("", "NA"):
            group[1] += 1
            group[2] += int(row[delay])
    return groups


def main() -> None:
    """Read this instance's shard and write its part."""
    index = int(os.environ["BATCH_TASK_INSTANCE_INDEX"])
    number = int(os.environ["BATCH_TASK_INSTANCE_NUM"])
    bucket = Bucket()
    size = bucket.size("flights.csv")
    first, last = size * index // number, size * (index + 1) // number
    columns = bucket.read("flights.csv", length=4096).partition(b"\n")[0].decode().split(",")
    groups = aggregate(shard(bucket.chunks("flights.csv", first), first, last), columns)
    bucket.write(f"parts/{index}.json", json.dumps(groups).encode())
    flights = sum(group[0] for group in groups.values())
    print(f"shard {index} of {number}: {flights} flights, {len(groups)} groups", file=sys.stderr)


if __name__ == "__main__":
    main()
