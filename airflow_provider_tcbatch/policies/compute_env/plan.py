"""What it takes for a compute environment to be as it is wished. Pure, on wire JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.compute_env import Placement
from airflow_provider_tcbatch.models.named_env import NamedComputeEnv
from airflow_provider_tcbatch.policies.ownership.marks import OWNER_TAG, described, described_by
from airflow_provider_tcbatch.policies.task_template.difference import Change, difference
from airflow_provider_tcbatch.policies.task_template.overrides import merge

__all__ = ["NOT_SHOWN", "EnvPlan", "EnvWish", "chosen", "plan", "wishes"]

#: Fields that the service takes and never shows: whether they differ can't be told.
NOT_SHOWN = ("ActionIfComputeNodeInactive", "AgentRunningMode", "NotificationTarget", "ResourceMaxRetryCount")

#: What ModifyComputeEnv can change.
_CHANGEABLE = (("DesiredComputeNodeCount",), ("EnvDescription",), ("EnvData", "InstanceTypes"))


@dataclass(frozen=True)
class EnvWish:
    """An environment as it is wished.

    :param env: as it would be made.
    :param wire: what is compared: the same in wire JSON, with the ``None`` of fields that must not be there.
    """

    env: NamedComputeEnv
    wire: Mapping[str, Any]

    @property
    def instance_types(self) -> list[str]:
        """Instance types in the order in which they are tried."""
        return list(_with_types(self.wire.get("EnvData") or {}).get("InstanceTypes") or [])

    def to_json(self) -> dict[str, Any]:
        """What tells it from its alternatives, as plain JSON."""
        charge = self.env.env_data and self.env.env_data.instance_charge_type
        return {"instance_charge_type": charge or "POSTPAID_BY_HOUR", "instance_types": self.instance_types}

    def __str__(self) -> str:
        told = self.to_json()
        return f"{told['instance_charge_type']} {', '.join(told['instance_types'])}".strip()


def wishes(env: Mapping[str, Any], alternatives: Sequence[Mapping[str, Any]]) -> list[EnvWish]:
    """An environment and its alternatives, in the order in which they are tried.

    :param env: wire JSON, with secrets in clear.
    :param alternatives: what is put onto it, by the rules of
        :mod:`~airflow_provider_tcbatch.policies.task_template.overrides`.
    :raises InvalidRequest: naming what is wrong with one of them.
    """
    found = [_wish(env, {}, "NamedComputeEnv")]
    for number, overrides in enumerate(alternatives):
        at = f"alternatives[{number}]"
        wish = _wish(merge(env, overrides), overrides, at)
        if wish.env.env_name != found[0].env.env_name:
            problem = f"{at}.EnvName: an alternative is the same environment, made in another way: leave the name out"
            raise InvalidRequest(f"Invalid {at}: {problem}", problems=[problem])
        found.append(wish)
    return found


def _wish(wire: Mapping[str, Any], overrides: Mapping[str, Any], at: str) -> EnvWish:
    env = NamedComputeEnv.parse(wire, at=at)
    # As numbers what Jinja has made text of: it is compared with what the service shows.
    return EnvWish(env, _with_removed(_with_removed(env.to_wire(), wire), overrides))


def _with_removed(value: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with the ``None`` of what was written, which validation has dropped."""
    result = dict(value)
    for name, item in written.items():
        if item is None:
            result.setdefault(name, None)
        elif isinstance(item, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = _with_removed(result[name], item)
    return result


@dataclass(frozen=True)
class EnvPlan:
    """What differs, by what can be done about it.

    :param changes: the service can change it.
    :param fixed: only another environment can have it otherwise.
    :param tags: tags are given when it is made; Batch has no action to change them.
    :param description: the description to send, if it is among the changes.
    """

    changes: tuple[Change, ...] = ()
    fixed: tuple[Change, ...] = ()
    tags: tuple[Change, ...] = ()
    description: str | None = None

    def modification(self, wish: EnvWish) -> dict[str, Any]:
        """Arguments of :meth:`~airflow_provider_tcbatch.hooks.batch.TCBatchHook.modify_compute_env`."""
        fields = {change.steps[0] for change in self.changes}
        arguments: dict[str, Any] = {}
        if "DesiredComputeNodeCount" in fields:
            arguments["desired_compute_node_count"] = wish.env.desired_compute_node_count
        if "EnvDescription" in fields:
            arguments["env_description"] = self.description
        if "EnvData" in fields:
            arguments["instance_types"] = wish.instance_types
        return arguments


def plan(
    wish: EnvWish,
    placement: Mapping[str, Any],
    shown: Mapping[str, Any],
    shown_placement: Mapping[str, Any],
) -> EnvPlan:
    """Compare an environment with a wish.

    :param wish: only what it names is compared.
    :param placement: where it shall be, in wire JSON.
    :param shown: what the service shows of it (DescribeComputeEnvCreateInfo), in wire JSON.
    :param shown_placement: where it is, in wire JSON.
    """
    wanted = {name: value for name, value in wish.wire.items() if name not in NOT_SHOWN}
    present = dict(shown)
    # Whose it is, is not the user's wish.
    text, mark = described_by(str(shown.get("EnvDescription") or ""))
    present["EnvDescription"] = text
    description = described(str(wanted.get("EnvDescription") or ""), mark)
    if "EnvDescription" in wanted:
        wanted["EnvDescription"] = described_by(description)[0]  # beside the mark it may have been cut
    named = [tag.get("Key") for tag in wanted.get("Tags") or ()]
    present["Tags"] = [tag for tag in shown.get("Tags") or () if tag.get("Key") != OWNER_TAG or tag.get("Key") in named]
    for env in (wanted, present):
        if isinstance(env.get("EnvData"), Mapping):
            env["EnvData"] = _with_types(env["EnvData"])
    found = difference(NamedComputeEnv, wanted, present)
    found += [
        replace(change, steps=("Placement", *change.steps))
        for change in difference(Placement, placement, shown_placement)
    ]
    changes, fixed, tags = [], [], []
    for change in found:
        if change.steps[0] == "Tags":
            tags.append(change)
        elif _can_change(change, wish):
            changes.append(change)
        else:
            fixed.append(change)
    return EnvPlan(tuple(changes), tuple(fixed), tuple(tags), description)


def _can_change(change: Change, wish: EnvWish) -> bool:
    if not any(change.steps[: len(path)] == path for path in _CHANGEABLE):
        return False
    # Types can be replaced, not taken away.
    return change.steps[0] != "EnvData" or bool(wish.instance_types)


def chosen(plans: Sequence[EnvPlan]) -> int | None:
    """Number of the first wish that an environment can be brought to; ``None`` if there is none."""
    return next((number for number, each in enumerate(plans) if not each.fixed), None)


def _with_types(data: Mapping[str, Any]) -> dict[str, Any]:
    """``EnvData`` with its one type as a list: a list of one type asks for the same."""
    result = {name: value for name, value in data.items() if name != "InstanceType" or value is None}
    if data.get("InstanceType") and not data.get("InstanceTypes"):
        result["InstanceTypes"] = [data["InstanceType"]]
        result.pop("InstanceType", None)
    return result
