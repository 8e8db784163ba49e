"""The actions on topics and subscriptions."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_tcbatch.emulator.cmq.broker import Broker
from airflow_provider_tcbatch.emulator.cmq.common import (
    NAME,
    TENANT,
    Handler,
    Params,
    check_new_name,
    find_topic,
    given_numbers,
    numbers,
    page,
    select,
)
from airflow_provider_tcbatch.emulator.cmq.entities import Subscription, Topic
from airflow_provider_tcbatch.emulator.cmq.service import CmqService
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.ids import new_id
from airflow_provider_tcbatch.emulator.schema import printable

MAX_TOPICS = 10_000
MAX_SUBSCRIPTIONS = 1000
TOPIC_NUMBERS = {
    "MsgRetentionSeconds": (86_400, 60, 86_400),
    "MaxMsgSize": (1_048_576, 1024, 1_048_576),
    "FilterType": (1, 1, 2),
}
#: FilterType of a topic whose messages are routed by binding keys, not by tags.
BY_ROUTING_KEY = 2
_STRATEGIES = ("BACKOFF_RETRY", "EXPONENTIAL_DECAY_RETRY")


def create_topic(cmq: CmqService, params: Params) -> Params:
    """CreateCmqTopic."""
    name = params["TopicName"]
    if cmq.broker.topic(name) is not None:
        raise ApiError("ResourceInUse.Topic", f"The topic {name} exists already; names are case-insensitive.")
    check_new_name(cmq, "topic", name, "TopicName")
    if len(cmq.broker.topics) >= MAX_TOPICS:
        raise ApiError("LimitExceeded.Topics", f"There are {MAX_TOPICS} topics already.")
    attributes = {**numbers(params, TOPIC_NUMBERS), "Trace": params.get("Trace", False)}
    return {"TopicId": cmq.broker.add_topic(name, attributes, params.get("Tags")).topic_id}


def modify_topic(cmq: CmqService, params: Params) -> Params:
    """ModifyCmqTopicAttribute; what is not sent stays."""
    topic = find_topic(cmq, params["TopicName"])
    topic.attributes.update(given_numbers(params, TOPIC_NUMBERS))
    if "Trace" in params:
        topic.attributes["Trace"] = params["Trace"]
    topic.modified_at = cmq.broker.now()
    cmq.host.ledger.touch(topic)
    return {}


def delete_topic(cmq: CmqService, params: Params) -> Params:
    """DeleteCmqTopic; its subscriptions go with it."""
    cmq.broker.remove_topic(find_topic(cmq, params["TopicName"]))
    return {}


def describe_topics(cmq: CmqService, params: Params) -> Params:
    """DescribeCmqTopics."""
    topics = select(cmq.broker.topics, params, "Topic")
    return {"TotalCount": len(topics), "TopicList": [_topic_view(topic) for topic in page(topics, params)]}


def describe_topic_detail(cmq: CmqService, params: Params) -> Params:
    """DescribeCmqTopicDetail."""
    return {"TopicDescribe": _topic_view(find_topic(cmq, params.get("TopicName", "")))}


def _topic_view(topic: Topic) -> Params:
    return {
        "TopicId": topic.topic_id,
        "TopicName": topic.name,
        **{name: topic.attributes[name] for name in TOPIC_NUMBERS},
        "Qps": 5000,
        "CreateTime": int(topic.created_at * 1000),
        "LastModifyTime": int(topic.modified_at * 1000),
        "MsgCount": 0,
        "Trace": topic.attributes.get("Trace", False),
        "Tags": topic.tags,
        "TenantId": TENANT,
        "NamespaceName": "CMQ_TOPIC-emulator",
        "Status": 1,
        "BrokerType": 1,
        "SubscriptionCount": len(topic.subscriptions),
    }


def publish_message(cmq: CmqService, params: Params) -> Params:
    """PublishCmqMsg."""
    if not params["MsgContent"]:
        raise ApiError("InvalidParameterValue", "The parameter `MsgContent` must not be empty.")
    topic = find_topic(cmq, params["TopicName"])
    if len(params["MsgContent"].encode()) > topic.attributes["MaxMsgSize"]:
        raise ApiError("FailedOperation.MaxMessageSizeError", "The message is larger than the topic's `MaxMsgSize`.")
    message_id, _ = cmq.broker.publish(topic, params["MsgContent"], tags=tuple(params.get("MsgTag", ())))
    return {"Result": True, "MsgId": message_id}


# -- subscriptions -----------------------------------------------------------------------------------------


def create_subscription(cmq: CmqService, params: Params) -> Params:
    """CreateCmqSubscribe; only queues are delivered to."""
    topic = find_topic(cmq, params["TopicName"])
    name = params["SubscriptionName"]
    if name in topic.subscriptions:
        raise ApiError("ResourceInUse.Subscription", f"The topic {topic.name} has a subscription {name} already.")
    if not NAME.match(name):
        raise ApiError("InvalidParameterValue", "The parameter `SubscriptionName` is no valid name.")
    if len(topic.subscriptions) >= MAX_SUBSCRIPTIONS:
        raise ApiError("LimitExceeded.Subscriptions", f"The topic {topic.name} has too many subscriptions.")
    if params["Protocol"] != "queue":
        raise ApiError(
            "UnsupportedOperation", "The emulator calls no HTTP endpoints: the parameter `Protocol` must be queue."
        )
    if params.get("NotifyContentFormat", "SIMPLIFIED") != "SIMPLIFIED":
        raise ApiError("InvalidParameterValue", "The `NotifyContentFormat` of a queue must be SIMPLIFIED.")
    if cmq.broker.queue(params["Endpoint"]) is None:
        raise ApiError(
            "FailedOperation.CreateSubscription", f"The queue {printable(params['Endpoint'], 64)!r} does not exist."
        )
    _check_filters(topic, params.get("FilterTag", ()), params.get("BindingKey", ()))
    if topic.attributes["FilterType"] == BY_ROUTING_KEY and not params.get("BindingKey"):
        raise ApiError(
            "InvalidParameterValue", "The topic routes by keys: the parameter `BindingKey` must not be empty."
        )
    _check_strategy(params)
    return {"SubscriptionId": subscribe(cmq.broker, topic, name, params).subscription_id}


def _check_filters(topic: Topic, tags: Sequence[str], keys: Sequence[str]) -> None:
    if len(tags) > 5 or len(keys) > 5:
        raise ApiError("InvalidParameterValue", "A subscription has at most 5 of `FilterTag` and of `BindingKey`.")
    if any(not 1 <= len(tag) <= 16 for tag in tags):
        raise ApiError("InvalidParameterValue", "A `FilterTag` has 1 to 16 characters.")
    if any(not 1 <= len(key.encode()) <= 64 or key.count(".") > 15 for key in keys):
        raise ApiError("InvalidParameterValue", "A `BindingKey` has 1 to 64 bytes and at most 15 dots.")
    if keys and topic.attributes["FilterType"] != BY_ROUTING_KEY:
        raise ApiError("InvalidParameterValue", "`BindingKey` is for topics whose `FilterType` is 2.")


def _check_strategy(params: Params) -> None:
    if params.get("NotifyStrategy", _STRATEGIES[0]) not in _STRATEGIES:
        raise ApiError("InvalidParameterValue", f"The parameter `NotifyStrategy` must be {' or '.join(_STRATEGIES)}.")


def subscribe(broker: Broker, topic: Topic, name: str, params: Params) -> Subscription:
    """Make a subscription; the caller has checked that it may be."""
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
    broker.ledger.touch(topic)
    return subscription


def delete_subscription(cmq: CmqService, params: Params) -> Params:
    """DeleteCmqSubscribe."""
    topic, subscription = _find_subscription(cmq, params)
    del topic.subscriptions[subscription.name]
    cmq.host.ledger.touch(topic)
    return {}


def _find_subscription(cmq: CmqService, params: Params) -> tuple[Topic, Subscription]:
    topic = find_topic(cmq, params["TopicName"])
    subscription = topic.subscriptions.get(params["SubscriptionName"])
    if subscription is None:
        raise ApiError(
            "ResourceNotFound.Subscription",
            f"The topic {topic.name} has no subscription {printable(params['SubscriptionName'], 64)!r}.",
        )
    return topic, subscription


def modify_subscription(cmq: CmqService, params: Params) -> Params:
    """ModifyCmqSubscriptionAttribute; what is not sent stays."""
    topic, subscription = _find_subscription(cmq, params)
    tags = tuple(params.get("FilterTags", subscription.filter_tags))
    keys = tuple(params.get("BindingKey", subscription.binding_keys))
    _check_filters(topic, tags, keys)
    _check_strategy(params)
    if params.get("NotifyContentFormat", "SIMPLIFIED") != "SIMPLIFIED":
        raise ApiError("InvalidParameterValue", "The `NotifyContentFormat` of a queue must be SIMPLIFIED.")
    subscription.filter_tags, subscription.binding_keys = tags, keys
    subscription.notify_strategy = params.get("NotifyStrategy", subscription.notify_strategy)
    subscription.modified_at = cmq.broker.now()
    cmq.host.ledger.touch(topic)
    return {}


def clear_filter_tags(cmq: CmqService, params: Params) -> Params:
    """ClearCmqSubscriptionFilterTags: from now on the subscription gets every message."""
    topic, subscription = _find_subscription(cmq, params)
    subscription.filter_tags = ()
    cmq.host.ledger.touch(topic)
    subscription.modified_at = cmq.broker.now()
    return {}


def describe_subscriptions(cmq: CmqService, params: Params) -> Params:
    """DescribeCmqSubscriptionDetail, of one topic or of all."""
    name = params.get("TopicName")
    topics = [find_topic(cmq, name)] if name else list(cmq.broker.topics.values())
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
            for subscription in page(found, params)
        ],
    }


HANDLERS: dict[str, Handler] = {
    "CreateCmqTopic": create_topic,
    "ModifyCmqTopicAttribute": modify_topic,
    "DeleteCmqTopic": delete_topic,
    "DescribeCmqTopics": describe_topics,
    "DescribeCmqTopicDetail": describe_topic_detail,
    "PublishCmqMsg": publish_message,
    "CreateCmqSubscribe": create_subscription,
    "ModifyCmqSubscriptionAttribute": modify_subscription,
    "ClearCmqSubscriptionFilterTags": clear_filter_tags,
    "DeleteCmqSubscribe": delete_subscription,
    "DescribeCmqSubscriptionDetail": describe_subscriptions,
}
