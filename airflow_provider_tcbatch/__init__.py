"""Apache Airflow provider for Tencent Cloud Batch."""

__version__ = "0.1.0"
