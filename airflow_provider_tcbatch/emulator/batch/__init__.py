"""Tencent Cloud Batch: actions, rules, the job state machine and the processes that jobs run."""
