"""What TDMQ CMQ's control plane returns about topics, queues and subscriptions; read as tolerantly as ``views``.

Times are unix milliseconds unless a field says seconds.
"""

from pydantic import Field

from airflow_provider_tcbatch.models.answers import Echo
from airflow_provider_tcbatch.models.base import ApiModel

__all__ = [
    "CmqDeadLetterPolicy",
    "CmqDeadLetterSource",
    "CmqQueue",
    "CmqSubscription",
    "CmqTag",
    "CmqTopic",
    "CmqTransactionPolicy",
]


class CmqTag(ApiModel):
    """A resource tag, as TDMQ spells it (``Tag`` in its API)."""

    tag_key: str
    tag_value: str


class CmqDeadLetterSource(ApiModel):
    """A queue whose dead letters go to this one."""

    queue_id: str | None = None
    queue_name: str | None = None


class CmqDeadLetterPolicy(ApiModel):
    """Where a queue's undeliverable messages go.

    :param policy: 0 after ``max_receive_count`` receptions, 1 after ``max_time_to_live`` seconds.
    """

    dead_letter_queue: str | None = None
    policy: int | None = None
    max_time_to_live: int | None = None
    max_receive_count: int | None = None


class CmqTransactionPolicy(ApiModel):
    """How the sender of a transaction is asked about its end."""

    first_query_interval: int | None = None
    max_query_count: int | None = None


class CmqQueue(ApiModel):
    """A queue.

    :param msg_retention_seconds: a message that nobody deleted within this time is **lost**.
    :param active_msg_num: messages that can be received, roughly.
    :param inactive_msg_num: messages that were received and not deleted yet, roughly.
    :param min_msg_time: age of the oldest message, in seconds.
    :param status: 0 being made, 1 normal, 2 being deleted, 3 deleted, 4 isolated, 5 could not be made, 6 could not be
        deleted.
    """

    queue_id: str | None = None
    queue_name: str
    qps: int | None = None
    bps: int | None = None
    max_delay_seconds: int | None = None
    max_msg_heap_num: int | None = None
    polling_wait_seconds: int | None = None
    msg_retention_seconds: int | None = None
    visibility_timeout: int | None = None
    max_msg_size: int | None = None
    rewind_seconds: int | None = None
    create_time: int | None = None
    last_modify_time: int | None = None
    active_msg_num: int | None = None
    inactive_msg_num: int | None = None
    delay_msg_num: int | None = None
    rewind_msg_num: int | None = None
    min_msg_time: int | None = None
    transaction: bool | None = None
    dead_letter_source: list[CmqDeadLetterSource] | None = None
    dead_letter_policy: CmqDeadLetterPolicy | None = None
    transaction_policy: CmqTransactionPolicy | None = None
    create_uin: int | None = None
    tags: list[Echo[CmqTag]] | None = None
    trace: bool | None = None
    tenant_id: str | None = None
    namespace_name: str | None = None
    status: int | None = None
    max_unacked_msg_num: int | None = None
    max_msg_backlog_size: int | None = None
    retention_size_in_mb: int | None = Field(default=None, alias="RetentionSizeInMB")


class CmqTopic(ApiModel):
    """A topic.

    :param filter_type: 1 by tag, 2 by routing key.
    :param msg_count: messages that were not passed on yet.
    :param broker_type: 0 Pulsar, 1 RocketMQ.
    """

    topic_id: str | None = None
    topic_name: str
    msg_retention_seconds: int | None = None
    max_msg_size: int | None = None
    qps: int | None = None
    filter_type: int | None = None
    create_time: int | None = None
    last_modify_time: int | None = None
    msg_count: int | None = None
    create_uin: int | None = None
    tags: list[Echo[CmqTag]] | None = None
    trace: bool | None = None
    tenant_id: str | None = None
    namespace_name: str | None = None
    status: int | None = None
    broker_type: int | None = None
    subscription_count: int | None = None


class CmqSubscription(ApiModel):
    """A subscription of a topic.

    :param endpoint: name of the queue, or URL, that messages go to.
    :param msg_count: messages that were not delivered yet.
    """

    subscription_name: str
    subscription_id: str | None = None
    topic_owner: int | None = None
    msg_count: int | None = None
    last_modify_time: int | None = None
    create_time: int | None = None
    binding_key: list[str] | None = None
    endpoint: str | None = None
    filter_tags: list[str] | None = None
    protocol: str | None = None
    notify_strategy: str | None = None
    notify_content_format: str | None = None
    topic_name: str | None = None
