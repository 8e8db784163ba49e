"""What the commands of :mod:`airflow_provider_tcbatch.cli` do."""
