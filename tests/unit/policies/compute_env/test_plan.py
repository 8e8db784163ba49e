from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.policies.compute_env.plan import EnvPlan, chosen, plan, wishes
from airflow_provider_tcbatch.policies.ownership.marks import OWNER_TAG, Mark, Owner, marked_env

ZONE = {"Zone": "ap-x-1"}
ENV = {
    "EnvName": "pool",
    "DesiredComputeNodeCount": 2,
    "EnvDescription": "for tests",
    "EnvData": {"InstanceTypes": ["S5.LARGE8"], "ImageId": "img-1"},
}
OWNER = Owner("airflow", "d", "r", "t")


def compare(wish: dict[str, Any], shown: dict[str, Any], zone: dict[str, Any] = ZONE) -> EnvPlan:
    [only] = wishes({"EnvName": "pool", "DesiredComputeNodeCount": 2, **wish}, [])
    return plan(only, ZONE, shown, zone)


def paths(found: EnvPlan) -> tuple[list[str], list[str], list[str]]:
    return (
        [change.path for change in found.changes],
        [change.path for change in found.fixed],
        [change.path for change in found.tags],
    )


def test_what_is_as_it_is_wished_needs_nothing() -> None:
    shown = {**ENV, "EnvId": "env-1", "EnvType": "MANAGED", "InputMappings": [], "Tags": None}
    assert compare(ENV, shown) == EnvPlan(description="for tests")


@pytest.mark.parametrize(
    ("wish", "kinds"),
    [
        ({"DesiredComputeNodeCount": 3}, (["DesiredComputeNodeCount"], [], [])),
        ({"EnvDescription": "others"}, (["EnvDescription"], [], [])),
        ({"EnvDescription": None}, (["EnvDescription"], [], [])),
        ({"EnvData": {"InstanceTypes": ["SA2.LARGE8"]}}, (["EnvData.InstanceTypes[0]"], [], [])),
        ({"EnvData": {"InstanceTypes": ["SA2.LARGE8", "S5.LARGE8"]}}, (["EnvData.InstanceTypes"], [], [])),
        ({"EnvData": {"InstanceType": "S5.LARGE8"}}, ([], [], [])),
        ({"EnvData": {"InstanceType": "SA2.LARGE8"}}, (["EnvData.InstanceTypes[0]"], [], [])),
        ({"EnvData": {"ImageId": "img-2"}}, ([], ["EnvData.ImageId"], [])),
        ({"EnvData": {"ImageId": None}}, ([], ["EnvData.ImageId"], [])),
        ({"EnvData": {"InstanceTypes": None}}, ([], ["EnvData.InstanceTypes"], [])),
        ({"EnvData": {"InstanceChargeType": "SPOTPAID"}}, ([], ["EnvData.InstanceChargeType"], [])),
        ({"Tags": [{"Key": "team", "Value": "data"}]}, ([], [], ["Tags"])),
        ({"ResourceMaxRetryCount": 0, "ActionIfComputeNodeInactive": "RECREATE"}, ([], [], [])),
        ({"DesiredComputeNodeCount": "3"}, (["DesiredComputeNodeCount"], [], [])),
    ],
)
def test_what_can_be_done_about_a_difference(wish: dict[str, Any], kinds: tuple[list[str], ...]) -> None:
    assert paths(compare(wish, ENV)) == kinds


def test_a_choice_of_another_kind_can_not_be_changed() -> None:
    shown = {**ENV, "EnvData": {"InstanceTypeOptions": {"CPU": 4, "Memory": 8}}}
    assert paths(compare({"EnvData": {"InstanceTypes": ["S5.LARGE8"]}}, shown))[1] == ["EnvData.InstanceTypeOptions"]


def test_another_zone_is_another_environment() -> None:
    assert paths(compare(ENV, ENV, {"Zone": "ap-x-2"}))[1] == ["Placement.Zone"]


def test_only_what_differs_is_sent() -> None:
    [wish] = wishes({**ENV, "EnvData": {"InstanceTypes": ["SA2.LARGE8"]}, "DesiredComputeNodeCount": 5}, [])
    found = plan(wish, ZONE, ENV, ZONE)
    assert found.modification(wish) == {"desired_compute_node_count": 5, "instance_types": ["SA2.LARGE8"]}
    assert EnvPlan().modification(wish) == {}


@pytest.mark.parametrize("text", ["for tests", "x" * 200, ""])
def test_the_owners_mark_is_no_difference_and_stays(text: str) -> None:
    marked = marked_env({**ENV, "EnvDescription": text}, OWNER, "0123abcd", mark=Mark.NAME)
    [same] = wishes({**ENV, "EnvDescription": text}, [])
    assert not plan(same, ZONE, marked, ZONE).changes
    [other] = wishes({**ENV, "EnvDescription": "other"}, [])
    found = plan(other, ZONE, marked, ZONE)
    assert found.modification(other) == {"env_description": f"other [{OWNER.prefix()}0123abcd]"}
    team = {"Tags": [{"Key": "team", "Value": "data"}]}
    tagged = marked_env({**ENV, **team}, OWNER, "0123abcd", mark=Mark.TAG)
    assert [tag["Key"] for tag in tagged["Tags"]] == ["team", OWNER_TAG]
    assert not compare({**ENV, **team}, tagged).tags


def test_alternatives_are_put_onto_the_environment() -> None:
    spot = {
        **ENV,
        "EnvData": {
            **ENV["EnvData"],  # type: ignore[dict-item]
            "InstanceChargeType": "SPOTPAID",
            "InstanceMarketOptions": {"SpotOptions": {"MaxPrice": "0.2"}},
        },
    }
    first, second = wishes(
        spot, [{"EnvData": {"InstanceChargeType": "POSTPAID_BY_HOUR", "InstanceMarketOptions": None}}]
    )
    assert str(first) == "SPOTPAID S5.LARGE8"
    assert second.to_json() == {"instance_charge_type": "POSTPAID_BY_HOUR", "instance_types": ["S5.LARGE8"]}
    assert second.env.env_data is not None
    assert second.env.env_data.instance_market_options is None
    plans = [plan(wish, ZONE, spot, ZONE) for wish in (first, second)]
    assert [len(each.fixed) for each in plans] == [0, 2], "what an alternative removes must not be there"
    assert chosen(plans) == 0
    assert chosen(plans[1:]) is None
    there = second.env.to_wire()
    assert chosen([plan(wish, ZONE, there, ZONE) for wish in (first, second)]) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"EnvName": "other"}, r"alternatives\[0\].EnvName"),
        ({"EnvData": {"ImageIdd": "x"}}, r"alternatives\[0\].EnvData.ImageIdd: unknown field"),
    ],
)
def test_wrong_alternatives_are_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        wishes(ENV, [overrides])
