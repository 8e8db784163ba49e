"""What the control API refuses, and that it still answers afterwards."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_tcbatch.emulator import Emulator

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "NaN"])
def test_numbers_that_are_no_json_are_refused(emulator: Emulator, number: str) -> None:
    """They could be accepted and never be shown again."""
    base = f"{emulator.info.endpoint}/_emulator"
    for method, path, name, body in (
        ("PATCH", "settings", "submitted_seconds", f'{{"submitted_seconds": {number}}}'),
        ("PATCH", "settings", "speed", f'{{"speed": {number}}}'),
        ("POST", "faults", "seconds", f'{{"kind": "clock_skew", "action": "None", "seconds": {number}}}'),
    ):
        before = requests.get(f"{base}/{path}", timeout=5).json()
        headers = {**JSON, "X-Emulator-Token": emulator.info.control_token}
        refused = requests.request(method, f"{base}/{path}", data=body, headers=headers, timeout=5)
        assert refused.status_code == 400
        assert [next(iter(detail.values())) for detail in refused.json()["details"]] == [name]
        assert requests.get(f"{base}/{path}", timeout=5).json() == before


@pytest.mark.parametrize("member", ["id", "hits", "passed", "self"])
def test_what_a_fault_says_of_itself_is_not_taken_from_outside(emulator: Emulator, member: str) -> None:
    url = f"{emulator.info.endpoint}/_emulator/faults"
    headers = {"X-Emulator-Token": emulator.info.control_token}
    refused = requests.post(url, json={"kind": "drop", "action": "None", member: 1}, timeout=5, headers=headers)
    assert refused.status_code == 400
    assert member in refused.text
    assert requests.get(url, timeout=5).json() == {"faults": []}
