"""Which members of the API's objects must be sent, taken from the description that Tencent's command line ships.

The official SDK's classes do not say what is required; ``api.json`` of the PyPI package ``tccli`` does. That package is
large, so the facts are kept beside the tests. To bring them up to date, with tccli installed::

    python -m tests.unit.models.required_members
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("data") / "required_members.json"

#: Folder of each API inside tccli, and the part of its actions that is of interest.
APIS = {"batch": ("batch/v20170312", ""), "tdmq": ("tdmq/v20200217", "Cmq")}


def available() -> bool:
    """Whether tccli is installed."""
    return importlib.util.find_spec("tccli") is not None


def collect() -> dict[str, dict[str, dict[str, bool]]]:
    """By API, object and member: whether a request must hold it. Objects of answers only are left out."""
    spec = importlib.util.find_spec("tccli")
    assert spec is not None
    assert spec.origin is not None
    services = Path(spec.origin).parent / "services"
    return {name: _collect(services / folder / "api.json", part) for name, (folder, part) in APIS.items()}


def _collect(path: Path, part: str) -> dict[str, dict[str, bool]]:
    api = json.loads(path.read_text(encoding="utf-8"))
    objects: dict[str, Any] = api["objects"]
    found: dict[str, dict[str, bool]] = {}
    pending = sorted(action["input"] for name, action in api["actions"].items() if part in name)
    while pending:
        name = pending.pop(0)
        if name not in found and name in objects:
            members = objects[name]["members"]
            found[name] = {member["name"]: member["required"] for member in members}
            pending += [member["member"] for member in members]
    return dict(sorted(found.items()))


def main() -> None:
    """Write the file anew."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(collect(), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
