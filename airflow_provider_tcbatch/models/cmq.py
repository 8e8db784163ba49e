"""Actions of TDMQ CMQ's control plane (API ``tdmq`` 2020-02-17): topics, queues, subscriptions.

Receiving and deleting messages is not part of API 3.0; see ``client/cmq.py``. Names of topics, queues and subscriptions
are unique in a region, so making one a second time is refused and repeating such a request is safe.
"""

from typing import Annotated, ClassVar, TypeVar

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from airflow_provider_tcbatch.models.answers import Listing
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.cmq_views import CmqQueue, CmqSubscription, CmqTag, CmqTopic
from airflow_provider_tcbatch.models.request import Action, Page, Result
from airflow_provider_tcbatch.models.states import WireEnum

__all__ = [
    "ClearCmqQueue",
    "ClearCmqSubscriptionFilterTags",
    "CmqFilter",
    "CreateCmqQueue",
    "CreateCmqSubscribe",
    "CreateCmqTopic",
    "DeleteCmqQueue",
    "DeleteCmqSubscribe",
    "DeleteCmqTopic",
    "DescribeCmqQueueDetail",
    "DescribeCmqQueues",
    "DescribeCmqSubscriptionDetail",
    "DescribeCmqTopicDetail",
    "DescribeCmqTopics",
    "ModifyCmqQueueAttribute",
    "ModifyCmqSubscriptionAttribute",
    "ModifyCmqTopicAttribute",
    "NotifyContentFormat",
    "NotifyStrategy",
    "PublishCmqMsg",
    "RewindCmqQueue",
    "SendCmqMsg",
    "SubscriptionProtocol",
    "UnbindCmqDeadLetter",
]

ResultT = TypeVar("ResultT", bound=Result)


def _binding_key(key: str) -> str:
    if len(key.encode()) > 64 or key.count(".") > 15:
        raise ValueError("must have at most 64 bytes and 15 dots")
    return key


#: Begins with a letter; letters, digits, "-" and "_"; at most 64 characters.
NewName = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]

#: Topics are documented without the rule about the first character.
NewTopicName = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]

FilterTags = Annotated[list[Annotated[str, Field(max_length=16)]], Field(max_length=5)]
BindingKeys = Annotated[list[Annotated[str, AfterValidator(_binding_key)]], Field(max_length=5)]


class SubscriptionProtocol(WireEnum):
    """How a subscription delivers: into a queue, or by POST to a URL."""

    QUEUE = "queue"
    HTTP = "http"


class NotifyContentFormat(WireEnum):
    """What is delivered: the bare message, or JSON with its circumstances."""

    SIMPLIFIED = "SIMPLIFIED"
    JSON = "JSON"


class NotifyStrategy(WireEnum):
    """How delivery is tried again: a few times and then dropped, or ever more slowly for a day (the default)."""

    BACKOFF_RETRY = "BACKOFF_RETRY"
    EXPONENTIAL_DECAY_RETRY = "EXPONENTIAL_DECAY_RETRY"


class CmqAction(Action[ResultT]):
    """Base of all of them."""

    service: ClassVar[str] = "tdmq"
    version: ClassVar[str] = "2020-02-17"


class CmqFilter(ApiModel):
    """A condition on a list, by tag only: ``tag:<key>`` (``Filter`` in TDMQ's API)."""

    name: str | None = None
    values: list[str] | None = None


class CmqPage(CmqAction[ResultT]):
    """Base of the lists.

    :param limit: service default 20, at most 50; required with ``offset``.
    """

    offset: Page | None = None
    limit: int | None = Field(default=None, ge=0, le=50)

    @model_validator(mode="after")
    def _limit_with_offset(self) -> Self:
        if self.offset is not None and self.limit is None:
            raise ValueError("Offset needs a Limit beside it")
        return self


# -- topics ------------------------------------------------------------------------------------------


class CreateCmqTopicResult(Result):
    """Answer of CreateCmqTopic."""

    topic_id: str | None = None


class CreateCmqTopic(CmqAction[CreateCmqTopicResult]):
    """Make a topic; a second one of the same name is refused.

    :param max_msg_size: in bytes, at least 1024.
    :param filter_type: 1 by tag (the default), 2 by routing key.
    :param msg_retention_seconds: 60 to 86400 s.
    """

    topic_name: NewTopicName
    max_msg_size: int | None = Field(default=None, ge=1024)
    filter_type: int | None = Field(default=None, ge=1, le=2)
    msg_retention_seconds: int | None = Field(default=None, ge=60, le=86400)
    trace: bool | None = None
    tags: list[CmqTag] | None = None


class ModifyCmqTopicAttribute(CmqAction[Result]):
    """Change a topic; what is not given stays."""

    topic_name: str = Field(max_length=64)
    max_msg_size: int | None = Field(default=None, ge=1024)
    msg_retention_seconds: int | None = Field(default=None, ge=60, le=86400)
    trace: bool | None = None


class DeleteCmqTopic(CmqAction[Result]):
    """Remove a topic; a second removal finds none."""

    topic_name: str = Field(max_length=64)


class DescribeCmqTopicDetailResult(Result):
    """Answer of DescribeCmqTopicDetail."""

    topic_describe: CmqTopic | None = None


class DescribeCmqTopicDetail(CmqAction[DescribeCmqTopicDetailResult]):
    """One topic."""

    topic_name: str | None = None


class DescribeCmqTopicsResult(Result):
    """Answer of DescribeCmqTopics."""

    topic_list: Listing[CmqTopic]
    total_count: int | None = None


class DescribeCmqTopics(CmqPage[DescribeCmqTopicsResult]):
    """Many topics.

    :param topic_name: part of the name.
    :param is_tag_filter: must be set where ``filters`` are used.
    """

    topic_name: str | None = None
    topic_name_list: list[str] | None = None
    is_tag_filter: bool | None = None
    filters: list[CmqFilter] | None = None


class PublishCmqMsgResult(Result):
    """Answer of PublishCmqMsg."""

    result: bool | None = None
    msg_id: str | None = None


class PublishCmqMsg(CmqAction[PublishCmqMsgResult]):
    """Publish a message to a topic. Not repeatable: it would be a second message.

    :param msg_content: at most 1 MB.
    :param msg_tag: tags, or one routing key; at most 64 characters each.
    """

    repeatable: ClassVar[bool] = False

    topic_name: str
    msg_content: str
    msg_tag: list[Annotated[str, Field(max_length=64)]] | None = None


# -- queues ------------------------------------------------------------------------------------------


class _QueueAttributes(ApiModel):
    """What can be set when a queue is made and changed later.

    :param max_msg_heap_num: messages that the queue holds at most, 1,000,000 to 1,000,000,000.
    :param polling_wait_seconds: long-poll time of receivers that name none, 0 to 30 s.
    :param visibility_timeout: seconds that a received message stays hidden, 1 to 43200.
    :param max_msg_size: in bytes, 1024 to 1048576.
    :param msg_retention_seconds: a message not deleted within this time is lost, 30 to 43200 s.
    :param rewind_seconds: how far the queue can be wound back, 0 (not at all) to 1296000 s.
    :param transaction: 1 for a queue with transactions.
    :param dead_letter_queue_name: where undeliverable messages go.
    :param policy: 0 after ``max_receive_count`` (1 to 1000) receptions, 1 after ``max_time_to_live`` (300 to 43200,
        less than ``msg_retention_seconds``) seconds.
    """

    max_msg_heap_num: int | None = Field(default=None, ge=1_000_000, le=1_000_000_000)
    polling_wait_seconds: int | None = Field(default=None, ge=0, le=30)
    visibility_timeout: int | None = Field(default=None, ge=1, le=43200)
    max_msg_size: int | None = Field(default=None, ge=1024, le=1048576)
    msg_retention_seconds: int | None = Field(default=None, ge=30, le=43200)
    rewind_seconds: int | None = Field(default=None, ge=0, le=1296000)
    transaction: int | None = Field(default=None, ge=0, le=1)
    first_query_interval: int | None = Field(default=None, ge=0)
    max_query_count: int | None = Field(default=None, ge=0)
    dead_letter_queue_name: str | None = None
    policy: int | None = Field(default=None, ge=0, le=1)
    max_receive_count: int | None = Field(default=None, ge=1, le=1000)
    max_time_to_live: int | None = Field(default=None, ge=300, le=43200)
    trace: bool | None = None
    retention_size_in_mb: int | None = Field(default=None, alias="RetentionSizeInMB", ge=0)

    @model_validator(mode="after")
    def _time_to_live(self) -> Self:
        if self.policy == 1 and self.max_time_to_live is None:
            raise ValueError("Policy 1 needs a MaxTimeToLive beside it")
        life, retention = self.max_time_to_live, self.msg_retention_seconds
        if life is not None and retention is not None and life >= retention:
            raise ValueError("MaxTimeToLive must be less than MsgRetentionSeconds")
        return self


class CreateCmqQueueResult(Result):
    """Answer of CreateCmqQueue."""

    queue_id: str | None = None


class CreateCmqQueue(CmqAction[CreateCmqQueueResult], _QueueAttributes):
    """Make a queue; a second one of the same name is refused.

    :param queue_name: begins with a letter; letters, digits, ``-`` and ``_``; at most 64.
    """

    queue_name: NewName
    tags: list[CmqTag] | None = None


class ModifyCmqQueueAttribute(CmqAction[Result], _QueueAttributes):
    """Change a queue; what is not given stays."""

    queue_name: str = Field(max_length=64)


class DeleteCmqQueue(CmqAction[Result]):
    """Remove a queue with its messages; a second removal finds none."""

    queue_name: str = Field(max_length=64)


class DescribeCmqQueueDetailResult(Result):
    """Answer of DescribeCmqQueueDetail."""

    queue_describe: CmqQueue | None = None


class DescribeCmqQueueDetail(CmqAction[DescribeCmqQueueDetailResult]):
    """One queue."""

    queue_name: str


class DescribeCmqQueuesResult(Result):
    """Answer of DescribeCmqQueues."""

    total_count: int | None = None
    queue_list: Listing[CmqQueue]


class DescribeCmqQueues(CmqPage[DescribeCmqQueuesResult]):
    """Many queues.

    :param is_tag_filter: must be set where ``filters`` are used.
    """

    queue_name: str | None = None
    queue_name_list: list[str] | None = None
    is_tag_filter: bool | None = None
    filters: list[CmqFilter] | None = None


class ClearCmqQueue(CmqAction[Result]):
    """Remove a queue's messages. Not repeatable: what has arrived since would be removed too."""

    repeatable: ClassVar[bool] = False

    queue_name: str = Field(max_length=64)


class RewindCmqQueue(CmqAction[Result]):
    """Wind a queue back: messages since a time are delivered anew, deleted ones too.

    Not repeatable: what was received and deleted since would come once more.

    :param start_consume_time: unix seconds.
    """

    repeatable: ClassVar[bool] = False

    queue_name: str = Field(max_length=64)
    start_consume_time: int = Field(ge=0)


class SendCmqMsgResult(Result):
    """Answer of SendCmqMsg."""

    result: bool | None = None
    msg_id: str | None = None


class SendCmqMsg(CmqAction[SendCmqMsgResult]):
    """Send a message to a queue. Not repeatable: it would be a second message.

    :param delay_seconds: how long it stays hidden at first; required, 0 for not at all.
    """

    repeatable: ClassVar[bool] = False

    queue_name: str
    msg_content: str
    delay_seconds: int = Field(ge=0)


class UnbindCmqDeadLetter(CmqAction[Result]):
    """Let a queue have no dead-letter queue any more."""

    source_queue_name: str


# -- subscriptions -----------------------------------------------------------------------------------


class CreateCmqSubscribeResult(Result):
    """Answer of CreateCmqSubscribe."""

    subscription_id: str | None = None


class CreateCmqSubscribe(CmqAction[CreateCmqSubscribeResult]):
    """Send a topic's messages on; a second subscription of the same name is refused.

    :param protocol: ``queue`` or ``http``.
    :param endpoint: name of the queue, or a URL that begins with ``http://``.
    :param notify_content_format: a queue takes SIMPLIFIED only.
    :param filter_tag: only messages with one of these tags, at most 5 of 16 characters; without it all messages.
    :param binding_key: only messages whose routing key fits, at most 5 of 64 bytes.
    """

    topic_name: str = Field(max_length=64)
    subscription_name: NewName
    protocol: SubscriptionProtocol
    endpoint: str
    notify_strategy: NotifyStrategy | None = None
    filter_tag: FilterTags | None = None
    binding_key: BindingKeys | None = None
    notify_content_format: NotifyContentFormat | None = None

    @model_validator(mode="after")
    def _fits_protocol(self) -> Self:
        if self.protocol is SubscriptionProtocol.HTTP and not self.endpoint.startswith("http://"):
            raise ValueError("Endpoint must begin with http:// where Protocol is http")
        if self.protocol is SubscriptionProtocol.QUEUE and self.notify_content_format is NotifyContentFormat.JSON:
            raise ValueError("NotifyContentFormat must be SIMPLIFIED where Protocol is queue")
        return self


class ModifyCmqSubscriptionAttribute(CmqAction[Result]):
    """Change a subscription; what is not given stays."""

    topic_name: str = Field(max_length=64)
    subscription_name: str = Field(max_length=64)
    notify_strategy: NotifyStrategy | None = None
    notify_content_format: NotifyContentFormat | None = None
    filter_tags: FilterTags | None = None
    binding_key: BindingKeys | None = None


class DeleteCmqSubscribe(CmqAction[Result]):
    """Remove a subscription; a second removal finds none."""

    topic_name: str = Field(max_length=64)
    subscription_name: str = Field(max_length=64)


class ClearCmqSubscriptionFilterTags(CmqAction[Result]):
    """Let a subscription receive all messages again."""

    topic_name: str = Field(max_length=64)
    subscription_name: str = Field(max_length=64)


class DescribeCmqSubscriptionDetailResult(Result):
    """Answer of DescribeCmqSubscriptionDetail."""

    total_count: int | None = None
    subscription_set: Listing[CmqSubscription]


class DescribeCmqSubscriptionDetail(CmqPage[DescribeCmqSubscriptionDetailResult]):
    """The subscriptions of a topic, or those that feed a queue.

    :param subscription_name: part of the name.
    :param query_type: ``topic`` (the default) or ``queue``.
    """

    topic_name: str | None = None
    subscription_name: str | None = None
    queue_name: str | None = None
    query_type: str | None = None
