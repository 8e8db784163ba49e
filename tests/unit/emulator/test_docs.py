from __future__ import annotations

import re
from pathlib import Path

from airflow_provider_tcbatch.emulator.batch.actions import HANDLERS as BATCH
from airflow_provider_tcbatch.emulator.cmq.actions import HANDLERS as TDMQ
from airflow_provider_tcbatch.emulator.cmq.dataplane import HANDLERS as CMQ
from airflow_provider_tcbatch.emulator.settings import Settings, as_text

TEXT = (Path(__file__).parents[3] / "docs" / "emulator.md").read_text()


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", TEXT.partition("## Settings")[2], re.MULTILINE))
    assert rows.keys() == Settings.model_fields.keys()
    defaults = Settings()
    for name, shown in rows.items():
        if name != "capacity":
            assert shown.strip("`") == as_text(getattr(defaults, name))


def test_every_action_is_documented() -> None:
    for action in [*BATCH, *TDMQ, *CMQ]:
        assert re.search(rf"\b{action}\b", TEXT), action
