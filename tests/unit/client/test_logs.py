from __future__ import annotations

import base64

import pytest

from airflow_provider_tcbatch.client.logs import decode_preview

TEXT = "步骤 1 done\n"
PLAIN = base64.b64encode(TEXT.encode()).decode()


@pytest.mark.parametrize("encoded", [PLAIN, PLAIN.rstrip("="), f"data:text/plain;charset=utf-8;base64,{PLAIN}"])
def test_all_documented_shapes_are_decoded(encoded: str) -> None:
    assert decode_preview(encoded) == TEXT


def test_a_character_cut_in_two_is_replaced() -> None:
    cut = base64.b64encode("步骤".encode()[1:]).decode()
    assert decode_preview(cut).endswith("骤")


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_output_is_an_empty_text(nothing: str | None) -> None:
    assert decode_preview(nothing) == ""


def test_what_is_not_base64_is_shown_as_it_is() -> None:
    assert decode_preview("plain words!") == "plain words!"
