"""Everything that can go wrong between a DAG and Tencent Cloud Batch, by class."""
