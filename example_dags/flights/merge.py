"""Add up the parts that the shards have written and write one table."""

from __future__ import annotations

import csv
import io
import json
import os

from storage import Bucket


def table(parts: list[dict[str, list[int]]]) -> str:
    """The parts added up, as CSV, ordered by carrier and month."""
    total: dict[tuple[str, int], list[int]] = {}
    for part in parts:
        for name, counts in part.items():
            carrier, month = name.split()
            group = total.setdefault((carrier, int(month)), [0, 0, 0])
            for column, count in enumerate(counts):
                group[column] += count
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["carrier", "month", "flights", "arrived", "arrival_delay", "mean_arrival_delay"])
    for (carrier, month), (flights, arrived, delay) in sorted(total.items()):
        mean = f"{delay / arrived:.3f}" if arrived else ""
        writer.writerow([carrier, month, flights, arrived, delay, mean])
    return text.getvalue()


def main() -> None:
    """Merge as many parts as there were shards; a missing one is an error."""
    bucket = Bucket()
    shards = int(os.environ["FLIGHTS_SHARDS"])
    parts = [json.loads(bucket.read(f"parts/{index}.json")) for index in range(shards)]
    result = table(parts)
    bucket.write("result.csv", result.encode())
    print(f"{shards} parts merged into {result.count(chr(10)) - 1} rows")


if __name__ == "__main__":
    main()
