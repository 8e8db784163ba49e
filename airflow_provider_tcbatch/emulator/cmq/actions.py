"""The Cmq actions of TDMQ's API 3.0: making, showing and removing queues, topics and subscriptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from airflow_provider_tcbatch.emulator.cmq.broker import Broker, Queue, Subscription, Topic
from airflow_provider_tcbatch.emulator.core import Core
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.ids import new_id
from airflow_provider_tcbatch.emulator.schema import printable

Params = dict[str, Any]
Handler = Callable[[Core, Params], Params]

_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
MAX_QUEUES = MAX_TOPICS = 10_000
MAX_SUBSCRIPTIONS = 1000

#: Defaults and ranges of a queue's numeric attributes.
_QUEUE_NUMBERS = {
    "PollingWaitSeconds": (0, 0, 30),
    "VisibilityTimeout": (30, 1, 43_200),
    "MaxMsgSize": (1_048_576, 1024, 1_048_576),
    "MsgRetentionSeconds": (3600, 30, 43_200),
    "RewindSeconds": (0, 0, 1_296_000),
    "MaxMsgHeapNum": (100_000_000, 1_000_000, 1_000_000_000),
}
_TOPIC_NUMBERS = {
    "MsgRetentionSeconds": (86_400, 60, 86_400),
    "MaxMsgSize": (1_048_576, 1024, 1_048_576),
    "FilterType": (1, 1, 2),
}
_TENANT = "cmq-emulator"


def create_durable_topic(broker: Broker, name: str) -> None:
    """A topic that SubmitJob accepts: with a queue of its own that is subscribed to it."""
    topic = broker.add_topic(name, _numbers({}, _TOPIC_NUMBERS))
    queue = broker.add_queue(f"{name}-base", _numbers({}, _QUEUE_NUMBERS))
    _subscribe(broker, topic, f"{name}-base", {"Protocol": "queue", "Endpoint": queue.name})


def _numbers(params: Params, table: dict[str, tuple[int, int, int]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, (default, low, high) in table.items():
        value = params.get(name, default)
        if not low <= value <= high:
            raise ApiError("InvalidParameterValue", f"The parameter `{name}` must be {low} to {high}.")
        result[name] = value
    return result


def _check_new_name(core: Core, kind: str, name: str, where: str) -> None:
    if not _NAME.match(name):
        raise ApiError(
            "InvalidParameterValue",
            f"The parameter `{where}` must begin with a letter and hold at most 64 letters, digits, _ and -.",
        )
    deleted = core.broker.deleted_names.get((kind, name.lower()))
    if deleted is not None and core.broker.now() - deleted < core.settings.cmq_name_block_seconds:
        raise ApiError(
            f"ResourceInUse.{kind.title()}",
            f"{name} was deleted less than {core.settings.cmq_name_block_seconds:g} s ago and is blocked for now.",
        )


def _queue(core: Core, name: str) -> Queue:
    queue = core.broker.queue(name)
    if queue is None:
        raise ApiError("ResourceNotFound", f"The queue {printable(name, 64)!r} does not exist.")
    return queue


def _topic(core: Core, name: str) -> Topic:
    topic = core.broker.topic(name)
    if topic is None:
        raise ApiError("ResourceNotFound.Topic", f"The topic {printable(name, 64)!r} does not exist.")
    return topic


# -- queues ------------------------------------------------------------------------------------------------


def create_queue(core: Core, params: Params) -> Params:
    """CreateCmqQueue."""
    name = params["QueueName"]
    if core.broker.queue(name) is not None:
        raise ApiError("ResourceInUse.Queue", f"The queue {name} exists already; names are case-insensitive.")
    _check_new_name(core, "queue", name, "QueueName")
    if len(core.broker.queues) >= MAX_QUEUES:
        raise ApiError("LimitExceeded", f"There are {MAX_QUEUES} queues already.")
    attributes = {**_numbers(params, _QUEUE_NUMBERS), "Trace": params.get("Trace", False)}
    queue = core.broker.add_queue(name, attributes, params.get("Tags"))
    return {"QueueId": queue.queue_id}


def delete_queue(core: Core, params: Params) -> Params:
    """DeleteCmqQueue. Subscriptions that point to the queue stay and deliver nowhere."""
    core.broker.remove_queue(_queue(core, params["QueueName"]))
    return {}


def clear_queue(core: Core, params: Params) -> Params:
    """ClearCmqQueue."""
    core.broker.clear(_queue(core, params["QueueName"]))
    return {}


def describe_queues(core: Core, params: Params) -> Params:
    """DescribeCmqQueues; QueueName matches a part of the name, QueueNameList whole names."""
    part, names = params.get("QueueName"), params.get("QueueNameList")
    wanted = {name.lower() for name in names} if names else None
    queues = [
        queue
        for queue in core.broker.queues.values()
        if (not part or part.lower() in queue.name.lower()) and (wanted is None or queue.name.lower() in wanted)
    ]
    return {"TotalCount": len(queues), "QueueList": [_queue_view(core, queue) for queue in _page(queues, params)]}


def describe_queue_detail(core: Core, params: Params) -> Params:
    """DescribeCmqQueueDetail."""
    return {"QueueDescribe": _queue_view(core, _queue(core, params["QueueName"]))}


def _queue_view(core: Core, queue: Queue) -> Params:
    core.broker.prune(queue)
    attributes = queue.attributes
    return {
        "QueueId": queue.queue_id,
        "QueueName": queue.name,
        "Qps": 5000,
        "Bps": 50,
        "MaxDelaySeconds": 3600,
        **{name: attributes[name] for name in _QUEUE_NUMBERS},
        "CreateTime": int(queue.created_at * 1000),
        "LastModifyTime": int(queue.modified_at * 1000),
        "ActiveMsgNum": len(queue.ready),
        "InactiveMsgNum": len(queue.inflight),
        "DelayMsgNum": queue.delayed,
        "Trace": attributes.get("Trace", False),
        "Tags": queue.tags,
        "TenantId": _TENANT,
        "NamespaceName": "CMQ_QUEUE-emulator",
        "Status": 1,
        "MaxUnackedMsgNum": 100_000,
        "MaxMsgBacklogSize": 10_737_418_240,
    }


def send_message(core: Core, params: Params) -> Params:
    """SendCmqMsg."""
    delay = params["DelaySeconds"]
    if not 0 <= delay <= 3600 or not params["MsgContent"]:
        raise ApiError("InvalidParameterValue", "MsgContent must not be empty and DelaySeconds must be 0 to 3600.")
    queue = _queue(core, params["QueueName"])
    return {"Result": True, "MsgId": core.broker.send(queue, params["MsgContent"], delay=delay)}


# -- topics ------------------------------------------------------------------------------------------------


def create_topic(core: Core, params: Params) -> Params:
    """CreateCmqTopic."""
    name = params["TopicName"]
    if core.broker.topic(name) is not None:
        raise ApiError("ResourceInUse.Topic", f"The topic {name} exists already; names are case-insensitive.")
    _check_new_name(core, "topic", name, "TopicName")
    if len(core.broker.topics) >= MAX_TOPICS:
        raise ApiError("LimitExceeded.Topics", f"There are {MAX_TOPICS} topics already.")
    attributes = {**_numbers(params, _TOPIC_NUMBERS), "Trace": params.get("Trace", False)}
    return {"TopicId": core.broker.add_topic(name, attributes, params.get("Tags")).topic_id}


def delete_topic(core: Core, params: Params) -> Params:
    """DeleteCmqTopic; its subscriptions go with it."""
    core.broker.remove_topic(_topic(core, params["TopicName"]))
    return {}


def describe_topics(core: Core, params: Params) -> Params:
    """DescribeCmqTopics; TopicName matches a part of the name, TopicNameList whole names."""
    part, names = params.get("TopicName"), params.get("TopicNameList")
    wanted = {name.lower() for name in names} if names else None
    topics = [
        topic
        for topic in core.broker.topics.values()
        if (not part or part.lower() in topic.name.lower()) and (wanted is None or topic.name.lower() in wanted)
    ]
    return {"TotalCount": len(topics), "TopicList": [_topic_view(topic) for topic in _page(topics, params)]}


def describe_topic_detail(core: Core, params: Params) -> Params:
    """DescribeCmqTopicDetail."""
    return {"TopicDescribe": _topic_view(_topic(core, params.get("TopicName", "")))}


def _topic_view(topic: Topic) -> Params:
    return {
        "TopicId": topic.topic_id,
        "TopicName": topic.name,
        **{name: topic.attributes[name] for name in _TOPIC_NUMBERS},
        "Qps": 5000,
        "CreateTime": int(topic.created_at * 1000),
        "LastModifyTime": int(topic.modified_at * 1000),
        "MsgCount": 0,
        "Trace": topic.attributes.get("Trace", False),
        "Tags": topic.tags,
        "TenantId": _TENANT,
        "NamespaceName": "CMQ_TOPIC-emulator",
        "Status": 1,
        "BrokerType": 1,
        "SubscriptionCount": len(topic.subscriptions),
    }


def publish_message(core: Core, params: Params) -> Params:
    """PublishCmqMsg."""
    if not params["MsgContent"]:
        raise ApiError("InvalidParameterValue", "The parameter `MsgContent` must not be empty.")
    topic = _topic(core, params["TopicName"])
    message_id, _ = core.broker.publish(topic, params["MsgContent"], tags=tuple(params.get("MsgTag", ())))
    return {"Result": True, "MsgId": message_id}


# -- subscriptions -----------------------------------------------------------------------------------------


def create_subscription(core: Core, params: Params) -> Params:
    """CreateCmqSubscribe; only queues are delivered to."""
    topic = _topic(core, params["TopicName"])
    name = params["SubscriptionName"]
    if name in topic.subscriptions:
        raise ApiError("ResourceInUse.Subscription", f"The topic {topic.name} has a subscription {name} already.")
    if not _NAME.match(name):
        raise ApiError("InvalidParameterValue", "The parameter `SubscriptionName` is no valid name.")
    if len(topic.subscriptions) >= MAX_SUBSCRIPTIONS:
        raise ApiError("LimitExceeded.Subscriptions", f"The topic {topic.name} has too many subscriptions.")
    if params["Protocol"] != "queue":
        raise ApiError(
            "UnsupportedOperation", "The emulator calls no HTTP endpoints: the parameter `Protocol` must be queue."
        )
    if params.get("NotifyContentFormat", "SIMPLIFIED") != "SIMPLIFIED":
        raise ApiError("InvalidParameterValue", "The `NotifyContentFormat` of a queue must be SIMPLIFIED.")
    if core.broker.queue(params["Endpoint"]) is None:
        raise ApiError(
            "FailedOperation.CreateSubscription", f"The queue {printable(params['Endpoint'], 64)!r} does not exist."
        )
    if len(params.get("FilterTag", ())) > 5 or len(params.get("BindingKey", ())) > 5:
        raise ApiError("InvalidParameterValue", "A subscription has at most 5 of `FilterTag` and of `BindingKey`.")
    return {"SubscriptionId": _subscribe(core.broker, topic, name, params).subscription_id}


def _subscribe(broker: Broker, topic: Topic, name: str, params: Params) -> Subscription:
    now = broker.now()
    subscription = Subscription(
        name=name,
        subscription_id=new_id("subsc"),
        topic=topic.name,
        protocol=params["Protocol"],
        endpoint=params["Endpoint"],
        created_at=now,
        filter_tags=tuple(params.get("FilterTag", ())),
        binding_keys=tuple(params.get("BindingKey", ())),
        notify_strategy=params.get("NotifyStrategy", "EXPONENTIAL_DECAY_RETRY"),
        content_format=params.get("NotifyContentFormat", "SIMPLIFIED"),
        modified_at=now,
    )
    topic.subscriptions[name] = subscription
    return subscription


def delete_subscription(core: Core, params: Params) -> Params:
    """DeleteCmqSubscribe."""
    topic = _topic(core, params["TopicName"])
    if topic.subscriptions.pop(params["SubscriptionName"], None) is None:
        raise ApiError(
            "ResourceNotFound", f"The topic has no subscription {printable(params['SubscriptionName'], 64)!r}."
        )
    return {}


def describe_subscriptions(core: Core, params: Params) -> Params:
    """DescribeCmqSubscriptionDetail, of one topic or of all."""
    name = params.get("TopicName")
    topics = [_topic(core, name)] if name else list(core.broker.topics.values())
    found = [
        subscription
        for topic in topics
        for subscription in topic.subscriptions.values()
        if params.get("SubscriptionName") in (None, "", subscription.name)
        and params.get("QueueName") in (None, "", subscription.endpoint)
    ]
    return {
        "TotalCount": len(found),
        "SubscriptionSet": [
            {
                "SubscriptionName": subscription.name,
                "SubscriptionId": subscription.subscription_id,
                "MsgCount": 0,
                "LastModifyTime": int(subscription.modified_at * 1000),
                "CreateTime": int(subscription.created_at * 1000),
                "BindingKey": list(subscription.binding_keys),
                "Endpoint": subscription.endpoint,
                "FilterTags": list(subscription.filter_tags),
                "Protocol": subscription.protocol,
                "NotifyStrategy": subscription.notify_strategy,
                "NotifyContentFormat": subscription.content_format,
                "TopicName": subscription.topic,
            }
            for subscription in _page(found, params)
        ],
    }


def _page(items: Sequence[Any], params: Params) -> Sequence[Any]:
    offset, limit = params.get("Offset", 0), params.get("Limit", 20)
    if offset < 0 or not 0 <= limit <= 50:
        raise ApiError("InvalidParameterValue", "`Offset` must not be negative and `Limit` must be 0 to 50.")
    return items[offset : offset + limit]


HANDLERS: dict[str, Handler] = {
    "CreateCmqQueue": create_queue,
    "DeleteCmqQueue": delete_queue,
    "ClearCmqQueue": clear_queue,
    "DescribeCmqQueues": describe_queues,
    "DescribeCmqQueueDetail": describe_queue_detail,
    "SendCmqMsg": send_message,
    "CreateCmqTopic": create_topic,
    "DeleteCmqTopic": delete_topic,
    "DescribeCmqTopics": describe_topics,
    "DescribeCmqTopicDetail": describe_topic_detail,
    "PublishCmqMsg": publish_message,
    "CreateCmqSubscribe": create_subscription,
    "DeleteCmqSubscribe": delete_subscription,
    "DescribeCmqSubscriptionDetail": describe_subscriptions,
}
