from __future__ import annotations

import copy
import string
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_tcbatch.policies.ownership.marks import (
    GENERATION_VARIABLE,
    OWNER_TAG,
    Mark,
    Owner,
    generation_of,
    marked,
    marked_env,
    owner_of,
)

#: Names that Airflow itself would make or allow, and that a tag holds as they are.
ORDINARY = st.text(string.ascii_letters + string.digits + "_-.", min_size=1, max_size=30)
#: Whatever an id may hold, up to Airflow's 250 characters.
WILD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40) | st.text(
    "aZ0_-./ ~:+数据é", min_size=240, max_size=250
)
TOKENS = st.uuids().map(lambda token: token.hex) | st.text(string.printable, min_size=1, max_size=64)


def owners(names: st.SearchStrategy[str]) -> st.SearchStrategy[Owner]:
    return st.builds(Owner, names, names, names, names, st.integers(-1, 10_000))


def allowed(character: str) -> bool:
    """What the service takes in the value of a tag: letters, numbers, spaces and a few signs."""
    return unicodedata.category(character)[0] in "LN" or character in "_ +-=.:/@"


JOBS = st.fixed_dictionaries(
    {
        "Tasks": st.lists(
            st.fixed_dictionaries(
                {"TaskName": ORDINARY},
                optional={
                    "EnvVars": st.lists(
                        st.fixed_dictionaries(
                            {
                                "Name": st.sampled_from(["A", "B", "AIRFLOW_CTX_DAG_ID", GENERATION_VARIABLE]),
                                "Value": st.text(max_size=5),
                            }
                        ),
                        max_size=4,
                    )
                },
            ),
            min_size=1,
            max_size=3,
        )
    },
    optional={
        "JobName": st.text(min_size=1, max_size=60),
        "Priority": st.integers(0, 100),
        "Tags": st.lists(
            st.fixed_dictionaries({"Key": st.sampled_from(["team", "cost", OWNER_TAG]), "Value": st.text(max_size=5)}),
            max_size=10,
        ),
    },
)


# -- the tag ---------------------------------------------------------------------------------------------


@given(owners(WILD), TOKENS)
@example(Owner("d" * 250, "数" * 250, "r/" * 125, "t" * 250, 9999), "0" * 32)
@example(Owner("airflow", "a" * 250, "manual__2026-01-31T00:00:00+00:00", "b" * 250), "0" * 32)
def test_a_tag_is_always_one_that_the_service_takes(owner: Owner, token: str) -> None:
    tag = owner.tag(generation_of(token))
    assert len(tag) <= 255
    assert [character for character in tag if not allowed(character)] == []
    assert tag.count("/") == 5


@given(owners(ORDINARY), TOKENS)
@example(Owner("airflow", "dag", "scheduled__2026-01-31T00:00:00+00:00", "group.task", 3), "0" * 32)
def test_an_owner_is_read_back_from_its_tag(owner: Owner, token: str) -> None:
    generation = generation_of(token)
    assert owner_of(owner.tag(generation)) == (owner, generation)


@given(owners(WILD), owners(WILD), TOKENS)
def test_different_owners_have_different_tags(one: Owner, other: Owner, token: str) -> None:
    generation = generation_of(token)
    assert (one.tag(generation) == other.tag(generation)) == (one == other)


@given(owners(WILD), TOKENS)
def test_map_index_and_generation_can_always_be_read(owner: Owner, token: str) -> None:
    """They tell the jobs of one task apart, however long its names are."""
    found = owner_of(owner.tag(generation_of(token)))
    assert found is not None
    assert (found[0].map_index, found[1]) == (owner.map_index, generation_of(token))


def test_names_in_full_are_kept_as_long_as_there_is_room() -> None:
    owner = Owner("airflow", "d" * 100, "r" * 100, "t" * 100)
    found = owner_of(owner.tag("0123abcd"))
    assert found is not None
    assert (found[0].dag_id, found[0].task_id) == (owner.dag_id, owner.task_id)
    assert found[0].run_id.startswith("sha256:")


@pytest.mark.parametrize("tag", ["", "somebody", "a/b/c/d/e/f", "a/b/c/d/-1", "a/b/c/d/-1/0123abcd/x", "a/b/c/d/1x/y"])
def test_a_tag_of_somebody_else_is_not_taken_for_an_owner(tag: str) -> None:
    assert owner_of(tag) is None


# -- the name --------------------------------------------------------------------------------------------


@given(JOBS, owners(WILD), TOKENS, st.sampled_from(Mark))
def test_a_job_name_is_short_enough_and_tells_the_generation(
    job: dict[str, Any], owner: Owner, token: str, mark: Mark
) -> None:
    name = marked(job, owner, token, mark=mark)["JobName"]
    assert len(name) <= 60
    if "JobName" not in job or mark is Mark.NAME:
        assert name.endswith(f"-{generation_of(token)}")
    if mark is Mark.NAME:
        assert name.startswith(owner.prefix())


@given(owners(WILD), TOKENS)
def test_a_default_name_holds_only_what_every_service_takes(owner: Owner, token: str) -> None:
    name = owner.default_name(generation_of(token))
    assert set(name) <= set(string.ascii_letters + string.digits + "_-")


def test_a_default_name_shows_the_task() -> None:
    assert Owner("airflow", "dag", "run", "group.task").default_name("0123abcd") == "dag-group-task-0123abcd"
    assert Owner("airflow", "dag", "run", "task", 12).default_name("0123abcd") == "dag-task-12-0123abcd"
    long = Owner("airflow", "d" * 250, "run", "task", 12).default_name("0123abcd")
    assert long == "d" * 48 + "-12-0123abcd"


@given(owners(WILD), owners(WILD))
def test_the_prefix_of_a_name_stands_for_the_task_instance(one: Owner, other: Owner) -> None:
    apart = [(o.deployment, o.dag_id, o.run_id, o.task_id, o.map_index) for o in (one, other)]
    if "/" not in "".join(map(str, (*apart[0][:4], *apart[1][:4]))):
        assert (one.prefix() == other.prefix()) == (one == other)


@given(JOBS, owners(ORDINARY), TOKENS, st.sampled_from([Mark.TAG, Mark.NONE]))
def test_marking_a_job_twice_changes_nothing_more(job: dict[str, Any], owner: Owner, token: str, mark: Mark) -> None:
    once = marked(job, owner, token, mark=mark, variables={"A": "1"})
    assert marked(once, owner, token, mark=mark, variables={"A": "2"}) == once


@given(TOKENS)
def test_a_generation_is_eight_hex_digits(token: str) -> None:
    assert len(generation_of(token)) == 8
    assert set(generation_of(token)) <= set("0123456789abcdef")
    assert generation_of(token) == generation_of(token)


def test_a_generation_is_the_beginning_of_a_token_where_that_is_hex() -> None:
    assert generation_of("0123ABCD" + "f" * 24) == "0123abcd"
    assert generation_of("my own token") != generation_of("my own tokem")


# -- what the user wrote ---------------------------------------------------------------------------------


@given(JOBS, owners(WILD), TOKENS, st.sampled_from(Mark), st.booleans())
def test_what_the_user_wrote_is_never_lost(
    job: dict[str, Any], owner: Owner, token: str, mark: Mark, with_variables: bool
) -> None:
    before = copy.deepcopy(job)
    variables = {"AIRFLOW_CTX_DAG_ID": "ours", "AIRFLOW_CTX_RUN_ID": "ours"} if with_variables else None
    result = marked(job, owner, token, mark=mark, variables=variables)
    assert job == before, "it is not changed"
    if "JobName" in job and mark is not Mark.NAME:
        assert result["JobName"] == job["JobName"]
    tags = job.get("Tags", [])
    assert result.get("Tags", [])[: len(tags)] == tags
    assert len(result.get("Tags", [])) <= 10
    for given_task, task in zip(job["Tasks"], result["Tasks"], strict=True):
        own = given_task.get("EnvVars", [])
        assert task.get("EnvVars", [])[: len(own)] == own
        names = [entry["Name"] for entry in task.get("EnvVars", [])[len(own) :]]
        assert set(names).isdisjoint(entry["Name"] for entry in own)
        assert {**task, "EnvVars": own} == {**given_task, "EnvVars": own}
    rest = {"JobName", "Tags", "Tasks"}
    assert {k: v for k, v in result.items() if k not in rest} == {k: v for k, v in job.items() if k not in rest}


def tagged(number: int) -> dict[str, Any]:
    return {"Tasks": [{}], "Tags": [{"Key": f"key-{index}", "Value": "x"} for index in range(number)]}


@given(JOBS, owners(ORDINARY), TOKENS, st.sampled_from(Mark))
@example(tagged(9), Owner("a", "b", "c", "d"), "0" * 32, Mark.TAG)
@example(tagged(10), Owner("a", "b", "c", "d"), "0" * 32, Mark.TAG)
def test_the_owner_stands_in_a_tag_where_there_is_room_for_it(
    job: dict[str, Any], owner: Owner, token: str, mark: Mark
) -> None:
    tags = job.get("Tags", [])
    added = marked(job, owner, token, mark=mark).get("Tags", [])[len(tags) :]
    room = len(tags) < 10 and all(tag["Key"] != OWNER_TAG for tag in tags)
    if mark is Mark.TAG and room:
        assert added == [{"Key": OWNER_TAG, "Value": owner.tag(generation_of(token))}]
    else:
        assert added == []


@given(JOBS, owners(ORDINARY), TOKENS)
def test_every_instance_is_told_its_generation(job: dict[str, Any], owner: Owner, token: str) -> None:
    for task in marked(job, owner, token, variables={"AIRFLOW_CTX_DAG_ID": owner.dag_id})["Tasks"]:
        names = [entry["Name"] for entry in task["EnvVars"]]
        assert {GENERATION_VARIABLE, "AIRFLOW_CTX_DAG_ID"} <= set(names)


def test_the_name_given_stays_readable_where_the_owner_stands_in_it() -> None:
    owner = Owner("airflow", "dag", "run", "task")
    job = {"JobName": "nightly", "Tasks": [{}]}
    name = marked(job, owner, "0123abcd" * 4, mark=Mark.NAME)["JobName"]
    assert name == f"{owner.prefix()}nightly-0123abcd"
    unnamed = marked({"Tasks": [{}]}, owner, "0123abcd" * 4, mark=Mark.NAME)["JobName"]
    assert unnamed == f"{owner.prefix()}dag-task-0123abcd", "the generation stands in it once"


# -- compute environments ------------------------------------------------------------------------------------

ENV = {"EnvName": "pool", "DesiredComputeNodeCount": 1}
OWNER = Owner("production", "a_dag", "manual__1", "a_task")


def test_an_environment_keeps_its_name_and_carries_its_owner() -> None:
    result = marked_env(ENV, OWNER, "0123abcd")
    assert result == {**ENV, "Tags": [{"Key": OWNER_TAG, "Value": OWNER.tag("0123abcd")}]}
    assert "Tags" not in ENV


def test_without_tags_the_description_names_the_owner() -> None:
    result = marked_env({**ENV, "EnvDescription": "x" * 300}, OWNER, "0123abcd", mark=Mark.NAME)
    assert result["EnvName"] == "pool"
    assert result["EnvDescription"].endswith(f"x [{OWNER.prefix()}0123abcd]")
    assert len(result["EnvDescription"]) == 200
    assert marked_env(ENV, OWNER, "0123abcd", mark=Mark.NAME)["EnvDescription"] == f"[{OWNER.prefix()}0123abcd]"
    assert marked_env(ENV, OWNER, "0123abcd", mark=Mark.NONE) == ENV


def test_the_users_own_tags_of_an_environment_stay() -> None:
    ten = [{"Key": f"k{number}", "Value": "v"} for number in range(10)]
    assert marked_env({**ENV, "Tags": ten}, OWNER, "0123abcd")["Tags"] == ten
    assert len(marked_env({**ENV, "Tags": ten[:9]}, OWNER, "0123abcd")["Tags"]) == 10
