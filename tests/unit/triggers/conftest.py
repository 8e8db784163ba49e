from __future__ import annotations

from airflow_provider_tcbatch.triggers._base.queue_trigger import acknowledges

# Shared streams came with Airflow 3.3; `make oldest` collects this folder, too.
collect_ignore = [] if acknowledges() else ["test_shared_stream.py"]
