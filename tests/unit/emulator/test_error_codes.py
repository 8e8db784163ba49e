"""Which of the error codes that the SDK knows the emulator gives."""

from __future__ import annotations

import re
from pathlib import Path

from tencentcloud.batch.v20170312 import errorcodes

from airflow_provider_tcbatch import emulator

ROOT = Path(emulator.__file__).parent
TEXT = (Path(__file__).parents[3] / "docs" / "emulator.md").read_text()


def known_codes() -> set[str]:
    return {value for name, value in vars(errorcodes).items() if name.isupper() and isinstance(value, str)}


def given_codes() -> set[str]:
    source = "\n".join(path.read_text() for path in (ROOT / "batch").rglob("*.py"))
    source += "\n".join((ROOT / name).read_text() for name in ("settings.py", "schema.py", "http/api3.py"))
    # "InvalidParameter.{name}TooLong" in ModifyTaskTemplate.
    made = {f"InvalidParameter.TaskTemplate{name}TooLong" for name in ("Name", "Description")}
    return {code for code in known_codes() if f'"{code}"' in source} | made


def test_codes_that_do_not_occur_are_documented() -> None:
    (row,) = re.findall(r"^\| error codes that do not occur by themselves \| (.+) \|$", TEXT, re.MULTILINE)
    documented: set[str] = set()
    last = ""
    for word in re.findall(r"[A-Za-z]*\.[A-Za-z]+", row):
        family, _, detail = word.partition(".")
        # ".CallCvm" goes on with the family of the code before.
        last = family or last
        documented.add(f"{last}.{detail}")
    assert known_codes() - given_codes() == documented
