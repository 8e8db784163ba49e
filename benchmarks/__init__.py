"""What a wait costs, measured: this provider beside the one of the field that is used most, in one run.

``make bench`` (or ``python -m benchmarks``) measures everything, prints the tables and, as its last line, one JSON
object. ``docs/performance.md`` explains the figures.
"""
