"""The actions on queues."""

from __future__ import annotations

from airflow_provider_tcbatch.emulator.cmq.common import (
    TENANT,
    Handler,
    Params,
    check_new_name,
    find_queue,
    given_numbers,
    numbers,
    page,
    select,
)
from airflow_provider_tcbatch.emulator.cmq.entities import BY_RECEIVE_COUNT, BY_TIME_TO_LIVE, Queue
from airflow_provider_tcbatch.emulator.cmq.service import CmqService
from airflow_provider_tcbatch.emulator.errors import ApiError

MAX_QUEUES = 10_000

#: Defaults and ranges of a queue's numeric attributes.
QUEUE_NUMBERS = {
    "PollingWaitSeconds": (0, 0, 30),
    "VisibilityTimeout": (30, 1, 43_200),
    "MaxMsgSize": (1_048_576, 1024, 1_048_576),
    "MsgRetentionSeconds": (3600, 30, 43_200),
    "RewindSeconds": (0, 0, 1_296_000),
    "RetentionSizeInMB": (0, 0, 512_000),
    "MaxMsgHeapNum": (100_000_000, 1_000_000, 1_000_000_000),
}


def create_queue(cmq: CmqService, params: Params) -> Params:
    """CreateCmqQueue."""
    name = params["QueueName"]
    if cmq.broker.queue(name) is not None:
        raise ApiError("ResourceInUse.Queue", f"The queue {name} exists already; names are case-insensitive.")
    check_new_name(cmq, "queue", name, "QueueName")
    if len(cmq.broker.queues) >= MAX_QUEUES:
        raise ApiError("LimitExceeded", f"There are {MAX_QUEUES} queues already.")
    attributes = numbers(params, QUEUE_NUMBERS)
    attributes.update(_switches(cmq, name, params, attributes))
    queue = cmq.broker.add_queue(name, attributes, params.get("Tags"))
    return {"QueueId": queue.queue_id}


def _switches(cmq: CmqService, name: str, params: Params, attributes: Params) -> Params:
    """Attributes that are no plain numbers: tracing, transactions and the dead letter policy."""
    result: Params = {
        key: params[key] for key in ("Trace", "Transaction", "FirstQueryInterval", "MaxQueryCount") if key in params
    }
    policy_members = ("DeadLetterQueueName", "Policy", "MaxReceiveCount", "MaxTimeToLive")
    policy = {key: params.get(key, attributes.get(key)) for key in policy_members}
    if not any(key in params for key in policy_members):
        return result
    target = cmq.broker.queue(policy["DeadLetterQueueName"] or "")
    if target is None or target.name.lower() == name.lower():
        raise ApiError("InvalidParameterValue", "The parameter `DeadLetterQueueName` must name another queue.")
    if policy["Policy"] == BY_RECEIVE_COUNT:
        if not 1 <= (policy["MaxReceiveCount"] or 0) <= 1000:
            raise ApiError(
                "InvalidParameterValue", "With `Policy` 0 the parameter `MaxReceiveCount` must be 1 to 1000."
            )
    elif policy["Policy"] == BY_TIME_TO_LIVE:
        longest = min(43_200, attributes["MsgRetentionSeconds"] - 1)
        if not 300 <= (policy["MaxTimeToLive"] or 0) <= longest:
            raise ApiError(
                "InvalidParameterValue",
                "With `Policy` 1 the parameter `MaxTimeToLive` must be 300 to 43200 and below `MsgRetentionSeconds`.",
            )
    else:
        raise ApiError("InvalidParameterValue", "The parameter `Policy` must be 0 or 1.")
    return {**result, **policy}


def modify_queue(cmq: CmqService, params: Params) -> Params:
    """ModifyCmqQueueAttribute; what is not sent stays. Messages that are there already follow the new attributes."""
    queue = find_queue(cmq, params["QueueName"])
    attributes = {**queue.attributes, **given_numbers(params, QUEUE_NUMBERS)}
    attributes.update(_switches(cmq, queue.name, params, attributes))
    queue.attributes.update(attributes)
    queue.modified_at = cmq.broker.now()
    cmq.host.ledger.touch(queue)
    if not attributes["RewindSeconds"]:
        cmq.broker.forget_acknowledged(queue)
    cmq.broker.prune(queue)
    return {}


def rewind_queue(cmq: CmqService, params: Params) -> Params:
    """RewindCmqQueue: what was acknowledged since StartConsumeTime (epoch seconds) can be received again."""
    queue = find_queue(cmq, params["QueueName"])
    seconds = queue.attributes["RewindSeconds"]
    if not seconds:
        raise ApiError("UnsupportedOperation", f"The queue {queue.name} cannot be rewound: its `RewindSeconds` is 0.")
    start, now = params["StartConsumeTime"], cmq.broker.now()
    if not now - seconds - 1 <= start <= now:
        raise ApiError(
            "InvalidParameterValue", f"The parameter `StartConsumeTime` must lie within the last {seconds} seconds."
        )
    cmq.broker.rewind(queue, start)
    return {}


def unbind_dead_letter(cmq: CmqService, params: Params) -> Params:
    """UnbindCmqDeadLetter: the queue has no dead letter policy any more."""
    queue = find_queue(cmq, params["SourceQueueName"])
    for name in ("DeadLetterQueueName", "Policy", "MaxReceiveCount", "MaxTimeToLive"):
        queue.attributes.pop(name, None)
    queue.modified_at = cmq.broker.now()
    cmq.host.ledger.touch(queue)
    return {}


def delete_queue(cmq: CmqService, params: Params) -> Params:
    """DeleteCmqQueue. Subscriptions that point to the queue stay and deliver nowhere."""
    cmq.broker.remove_queue(find_queue(cmq, params["QueueName"]))
    return {}


def clear_queue(cmq: CmqService, params: Params) -> Params:
    """ClearCmqQueue."""
    cmq.broker.clear(find_queue(cmq, params["QueueName"]))
    return {}


def describe_queues(cmq: CmqService, params: Params) -> Params:
    """DescribeCmqQueues."""
    queues = select(cmq.broker.queues, params, "Queue")
    return {"TotalCount": len(queues), "QueueList": [_queue_view(cmq, queue) for queue in page(queues, params)]}


def describe_queue_detail(cmq: CmqService, params: Params) -> Params:
    """DescribeCmqQueueDetail."""
    return {"QueueDescribe": _queue_view(cmq, find_queue(cmq, params["QueueName"]))}


def _queue_view(cmq: CmqService, queue: Queue) -> Params:
    cmq.broker.prune(queue)
    attributes = queue.attributes
    return {
        "QueueId": queue.queue_id,
        "QueueName": queue.name,
        "Qps": 5000,
        "Bps": 50,
        "MaxDelaySeconds": 3600,
        **{name: attributes[name] for name in QUEUE_NUMBERS},
        "CreateTime": int(queue.created_at * 1000),
        "LastModifyTime": int(queue.modified_at * 1000),
        "ActiveMsgNum": len(queue.ready),
        "InactiveMsgNum": len(queue.inflight),
        "DelayMsgNum": queue.delayed,
        "RewindMsgNum": len(queue.acknowledged),
        "MinMsgTime": int(queue.ready[0].enqueued_at) if queue.ready else None,
        "Transaction": bool(attributes.get("Transaction")),
        "TransactionPolicy": {
            "FirstQueryInterval": attributes.get("FirstQueryInterval"),
            "MaxQueryCount": attributes.get("MaxQueryCount"),
        }
        if attributes.get("Transaction")
        else None,
        "DeadLetterPolicy": {
            "DeadLetterQueue": attributes["DeadLetterQueueName"],
            "Policy": attributes["Policy"],
            "MaxReceiveCount": attributes.get("MaxReceiveCount"),
            "MaxTimeToLive": attributes.get("MaxTimeToLive"),
        }
        if attributes.get("DeadLetterQueueName")
        else None,
        "DeadLetterSource": [
            {"QueueId": source.queue_id, "QueueName": source.name}
            for source in cmq.broker.queues.values()
            if source.attributes.get("DeadLetterQueueName", "").lower() == queue.name.lower()
        ],
        "Trace": attributes.get("Trace", False),
        "Tags": queue.tags,
        "TenantId": TENANT,
        "NamespaceName": "CMQ_QUEUE-emulator",
        "Status": 1,
        "MaxUnackedMsgNum": 100_000,
        "MaxMsgBacklogSize": 10_737_418_240,
    }


def send_message(cmq: CmqService, params: Params) -> Params:
    """SendCmqMsg."""
    delay = params["DelaySeconds"]
    if not 0 <= delay <= 3600 or not params["MsgContent"]:
        raise ApiError("InvalidParameterValue", "MsgContent must not be empty and DelaySeconds must be 0 to 3600.")
    queue = find_queue(cmq, params["QueueName"])
    if cmq.host.faults.queue(queue.name) is not None:
        raise ApiError("FailedOperation.CmqBackendError", f"The queue {queue.name} cannot be reached.")
    if len(params["MsgContent"].encode()) > queue.attributes["MaxMsgSize"]:
        raise ApiError("FailedOperation.MaxMessageSizeError", "The message is larger than the queue's `MaxMsgSize`.")
    return {"Result": True, "MsgId": cmq.broker.send(queue, params["MsgContent"], delay=delay)}


HANDLERS: dict[str, Handler] = {
    "CreateCmqQueue": create_queue,
    "ModifyCmqQueueAttribute": modify_queue,
    "DeleteCmqQueue": delete_queue,
    "ClearCmqQueue": clear_queue,
    "RewindCmqQueue": rewind_queue,
    "UnbindCmqDeadLetter": unbind_dead_letter,
    "DescribeCmqQueues": describe_queues,
    "DescribeCmqQueueDetail": describe_queue_detail,
    "SendCmqMsg": send_message,
}
