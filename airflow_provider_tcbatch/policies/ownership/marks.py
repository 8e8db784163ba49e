"""What a job carries of the task that owns it: its name, a tag, and environment variables.

A job that is marked can be found again when the answer to its submission was lost, and a job that nobody owns any more
can be told from one that somebody needs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = [
    "GENERATION_VARIABLE",
    "KEEP_VARIABLE",
    "OWNER_TAG",
    "Mark",
    "Owner",
    "described",
    "described_by",
    "generation_of",
    "marked",
    "marked_env",
    "owner_of",
]

#: Key of the tag that names the owner.
OWNER_TAG = "airflow-tcbatch-owner"

#: Environment variable that names the generation; its value ends a default JobName, too.
GENERATION_VARIABLE = "AIRFLOW_CTX_TCBATCH_GENERATION"

#: Environment variable of a job that is meant to outlive its task.
KEEP_VARIABLE = "AIRFLOW_CTX_TCBATCH_KEEP"

#: Longest JobName, and longest value of a tag, that the service takes.
_NAME = 60
_TAG = 255

#: Longest JobDescription. That of an EnvDescription is not documented; it is taken to be the same.
_DESCRIPTION = 200

#: What a tag's value may hold besides letters and digits of any script.
_TAG_SIGNS = re.compile(r"[^\w +\-=.:@]")

#: What names the owner at the end of a description.
_MARK = re.compile(r"\[af-[0-9a-f]{12}-[0-9a-f]{8}\]$")

#: Most tags of a job.
_TAGS = 10


class Mark(str, Enum):
    """Where a job says whose it is."""

    TAG = "tag"
    NAME = "name"
    NONE = "none"


@dataclass(frozen=True)
class Owner:
    """The task instance that a job belongs to.

    :param deployment: what tells this Airflow from others that use the same account.
    :param map_index: ``-1`` for a task that is not mapped.
    """

    deployment: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def tag(self, generation: str) -> str:
        """Value of the ownership tag: six parts between slashes.

        A part with other characters than a tag may hold, or a value that would be too long, becomes a digest; the job's
        environment variables hold the names in full.
        """
        parts = [self.deployment, self.dag_id, self.run_id, self.task_id, str(self.map_index), generation]
        parts = [_digest(part) if _TAG_SIGNS.search(part) else part for part in parts]
        for place in (2, 1, 3, 0):
            if len("/".join(parts)) > _TAG:
                parts[place] = _digest(parts[place])
        return "/".join(parts)

    def prefix(self) -> str:
        """What a JobName begins with where tags may not be used."""
        names = (self.deployment, self.dag_id, self.run_id, self.task_id, str(self.map_index))
        return f"af-{hashlib.sha256('/'.join(names).encode()).hexdigest()[:12]}-"

    def default_name(self, generation: str) -> str:
        """A JobName that a reader recognises: the task, and what tells its jobs apart."""
        index = "" if self.map_index < 0 else f"-{self.map_index}"
        ending = f"{index}-{generation}"
        return f"{_plain(self.dag_id)}-{_plain(self.task_id)}"[: _NAME - len(ending)] + ending


def generation_of(token: str) -> str:
    """Eight hex digits that stand for a ClientToken, and so for one generation of a task."""
    head = token[:8].lower()
    return head if re.fullmatch("[0-9a-f]{8}", head) else hashlib.sha256(token.encode()).hexdigest()[:8]


def owner_of(tag: str) -> tuple[Owner, str] | None:
    """Owner and generation from the value of a tag; ``None`` if it is not one of ours."""
    parts = tag.split("/")
    if len(parts) != 6 or not re.fullmatch(r"-?\d+", parts[4]):
        return None
    return Owner(parts[0], parts[1], parts[2], parts[3], int(parts[4])), parts[5]


def marked(
    job: Mapping[str, Any],
    owner: Owner,
    token: str,
    *,
    mark: Mark = Mark.TAG,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a job that carries its owner.

    What the user wrote stays: a JobName (unless the owner has to stand in it), an environment variable of the same
    name, and the tags, of which a job has at most ten.

    :param job: job in wire JSON; it is not changed.
    :param owner: whose it is.
    :param token: the ClientToken that it is sent with.
    :param mark: where to put the owner.
    :param variables: environment variables for every instance.
    """
    generation = generation_of(token)
    result = dict(job)
    name = result.get("JobName") or owner.default_name(generation)
    if mark is Mark.NAME:
        prefix, ending = owner.prefix(), f"-{generation}"
        name = prefix + name.removesuffix(ending)[: _NAME - len(prefix) - len(ending)] + ending
    result["JobName"] = name
    tags = list(result.get("Tags") or [])
    if mark is Mark.TAG and len(tags) < _TAGS and not any(tag.get("Key") == OWNER_TAG for tag in tags):
        result["Tags"] = [*tags, {"Key": OWNER_TAG, "Value": owner.tag(generation)}]
    if variables:
        given = {**variables, GENERATION_VARIABLE: generation}
        result["Tasks"] = [_with_variables(task, given) for task in result["Tasks"]]
    return result


def marked_env(env: Mapping[str, Any], owner: Owner, generation: str, *, mark: Mark = Mark.TAG) -> dict[str, Any]:
    """Return a compute environment that carries its owner.

    The name stays as it is: others find the environment by it. Where tags may not be used, the owner stands at the end
    of the description.

    :param env: environment in wire JSON; it is not changed.
    :param owner: whose it is.
    :param generation: what tells the environments apart that one task makes after another.
    :param mark: where to put the owner.
    """
    result = dict(env)
    tags = list(result.get("Tags") or [])
    if mark is Mark.TAG and len(tags) < _TAGS and not any(tag.get("Key") == OWNER_TAG for tag in tags):
        result["Tags"] = [*tags, {"Key": OWNER_TAG, "Value": owner.tag(generation)}]
    if mark is Mark.NAME:
        ending = f"[{owner.prefix()}{generation}]"
        result["EnvDescription"] = described(str(result.get("EnvDescription") or ""), ending)
    return result


def described(text: str, mark: str) -> str:
    """A description with the mark of its owner at its end; as much of the text as there is room for.

    :param mark: as :func:`described_by` reads it; may be empty.
    """
    return f"{text[: _DESCRIPTION - len(mark) - 1]} {mark}".strip() if mark else text


def described_by(description: str) -> tuple[str, str]:
    """The user's text of a description, and the mark of its owner, which may be empty."""
    found = _MARK.search(description)
    return (description[: found.start()].rstrip(), found[0]) if found else (description, "")


def _with_variables(task: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    present = list(task.get("EnvVars") or [])
    taken = {entry.get("Name") for entry in present}
    more = [{"Name": name, "Value": value} for name, value in variables.items() if name not in taken]
    return {**task, "EnvVars": [*present, *more]}


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _plain(text: str) -> str:
    """Only what every service takes in a name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)
