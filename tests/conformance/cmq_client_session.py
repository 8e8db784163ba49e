"""A session with the vendor's old CMQ SDK, in a process of its own: it writes log files beside the program.

Arguments: endpoint, SecretId, SecretKey, queue, topic, ``sha1`` or ``sha256``, method. Prints what happened.
"""

from __future__ import annotations

import json
import sys
import types
from typing import Any

if sys.version_info >= (3, 13):
    # The SDK imports this module of the standard library without using it; Python 3.13 does not have it any more.
    mailcap: Any = types.ModuleType("mailcap")
    mailcap.subst = None
    sys.modules["mailcap"] = mailcap

endpoint, secret_id, secret_key, queue_name, topic_name, sign_method, method = sys.argv[1:]
from cmq.account import Account  # noqa: E402
from cmq.cmq_exception import CMQServerException  # noqa: E402
from cmq.queue import Message  # noqa: E402

account = Account(endpoint, secret_id, secret_key)
account.set_sign(sign_method)
account.cmq_client.set_method(method)
queue, topic = account.get_queue(queue_name), account.get_topic(topic_name)


def code_of(call: Any, *arguments: Any) -> int:
    try:
        call(*arguments)
    except CMQServerException as error:
        return int(error.code)
    return 0


sent = queue.send_message(Message("first ünïcode & = ?"))
many = queue.batch_send_message([Message("second"), Message("third")])
published = topic.publish_message(Message("fourth"))
first = queue.receive_message(3)
others = queue.batch_receive_message(16, 3)
queue.delete_message(first.receiptHandle)
result: dict[str, Any] = {
    "sent": [sent.msgId, *(message.msgId for message in many), published.msgId],
    "received": [[message.msgId, message.msgBody] for message in (first, *others)],
    "empty": code_of(queue.receive_message, 0),
    "deleted twice": code_of(queue.delete_message, first.receiptHandle),
    "partly": code_of(queue.batch_delete_message, [others[0].receiptHandle, "nonsense"]),
    "rest": code_of(queue.batch_delete_message, [message.receiptHandle for message in others[1:]]),
    "nowhere": code_of(account.get_queue("nowhere").receive_message, 0),
    "legacy": code_of(queue.get_attributes),
}
print(json.dumps(result))
