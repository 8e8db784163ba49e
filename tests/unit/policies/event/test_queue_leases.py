from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.policies.event.queue_leases import Looks, family, is_of, next_sign, queue_name

SILENCE = 100.0
LOOKS = 3
OURS = family("prod", "topic")


def look(before: Looks, seen: dict[str, str], now: float, sign: str | None = None) -> Looks:
    return before.look(seen, "me", seen["me"] if sign is None else sign, now, silence=SILENCE, looks=LOOKS)


# -- names ---------------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.text())
def test_any_name_is_one_that_the_service_takes(deployment: str, topic: str, host: str) -> None:
    ours = family(deployment, topic)
    name = queue_name(ours, host, "0123abcd")
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", name)
    assert is_of(ours, name)
    assert is_of(ours, name.upper()), "names are not told apart by case"


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()), st.text())
def test_families_have_nothing_in_common(one: tuple[str, str], other: tuple[str, str], host: str) -> None:
    if one != other:
        assert not is_of(family(*one), queue_name(family(*other), host, "0123abcd"))


def test_a_deployment_can_not_be_named_into_another_ones_family() -> None:
    digest = OURS.split("-")[-2]
    for deployment in (f"prod-{digest}", f"prod-{digest}-h", "PROD", "prod-"):
        assert not is_of(OURS, queue_name(family(deployment, "topic"), "h", "0123abcd"))


@pytest.mark.parametrize(
    "name",
    ["topic-base", "assets", "airflow-tcbatch-assets", "airflow-tcbatch-assets-0123abcd", OURS, f"{OURS}0123abcd"],
)
def test_what_people_name_is_in_no_family(name: str) -> None:
    assert not is_of(OURS, name)


# -- signs ---------------------------------------------------------------------------------------------


def test_a_sign_is_a_poll_time_and_always_another_one() -> None:
    sign, signs = 1, []
    for _ in range(60):
        signs.append(sign)
        sign = next_sign(sign)
        assert sign != signs[-1]
    assert set(signs) == set(range(1, 31))


def test_who_gives_no_sign_for_long_enough_is_dead() -> None:
    looks = Looks()
    for number, now in enumerate([0, 40, 80, 99]):
        looks = look(looks, {"me": f"{number}", "other": f"{number}", "silent": "7"}, now)
        assert looks.believed
        assert looks.dead == ()
    looks = look(looks, {"me": "4", "other": "4", "silent": "7"}, 100)
    assert looks.dead == ("silent",)


def test_a_new_sign_begins_the_silence_anew() -> None:
    looks = Looks()
    for now in (0, 60):
        looks = look(looks, {"me": "1", "other": "1"}, now)
    looks = look(looks, {"me": "1", "other": "2"}, 120)
    for now in (180, 219):
        looks = look(looks, {"me": "1", "other": "2"}, now)
        assert looks.dead == ()
    assert look(looks, {"me": "1", "other": "2"}, 220).dead == ("other",)


def test_an_observer_that_slept_looks_again_before_it_judges() -> None:
    looks = look(Looks(), {"me": "1", "other": "1"}, 0)
    looks = look(looks, {"me": "1", "other": "1"}, 100_000)
    assert looks.dead == (), "the other may have slept as well, on the same machine"
    assert look(looks, {"me": "2", "other": "1"}, 100_001).dead == ("other",)


@pytest.mark.parametrize("seen", [{}, {"me": "1"}, {"me": ""}, {"me": "None"}])
def test_who_does_not_see_its_own_sign_believes_none(seen: dict[str, str]) -> None:
    looks = Looks()
    for now in range(0, 1000, 50):
        looks = look(looks, {**seen, "silent": "7"}, now, sign="2")
        assert not looks.believed
        assert looks.dead == ()
    # What was seen in vain does not count later.
    assert look(looks, {"me": "2", "silent": "7"}, 1000, sign="2").dead == ()


def test_a_subscription_whose_queue_is_gone_is_dead_in_the_same_way() -> None:
    looks = Looks()
    for now in (0, 50, 100):
        looks = look(looks, {"me": "1", "gone": ""}, now)
    assert looks.dead == ("gone",)


def test_the_observer_itself_is_never_dead() -> None:
    looks = Looks()
    for now in range(0, 1000, 50):
        looks = look(looks, {"me": "1"}, now)
        assert looks.dead == ()


@given(st.lists(st.tuples(st.floats(1, 60), st.booleans()), min_size=1, max_size=60))
def test_who_gives_a_sign_between_two_looks_never_is_dead(steps: list[tuple[float, bool]]) -> None:
    """Whatever the observer's pace: a look at which the sign has changed can't find the other dead."""
    looks, now, sign, changed = Looks(), 0.0, 1, 0.0
    for seconds, gives in steps:
        now += seconds
        if gives:
            sign, changed = next_sign(sign), now
        looks = look(looks, {"me": "1", "other": str(sign)}, now)
        if looks.dead:
            assert now - changed >= SILENCE
