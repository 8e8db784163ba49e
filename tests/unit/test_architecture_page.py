"""The pages on architecture say what is so: layers, files, and links between all pages."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "airflow_provider_tcbatch"
DECISIONS = DOCS / "decisions"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

#: Modules beside the layers.
BESIDE = {"", "__init__", "_lazy", "get_provider_info", "links", "testing", "text"}


def layers() -> dict[str, str]:
    """What each layer may import, as the page says it."""
    text = (DOCS / "architecture.md").read_text()
    table = text[text.index("| layer |") :].split("\n\n", 1)[0]
    found: dict[str, str] = {}
    for line in table.splitlines()[2:]:
        names, _, may_import = line.strip("| ").split(" | ")
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), may_import)
    return found


def allowed(layer: str, table: dict[str, str]) -> set[str]:
    """The layers that a layer may import."""
    may = table[layer]
    if may == "all layers below":
        names = list(table)[list(table).index("sensors") :]
        return set(names) - {"emulator"}
    named = set() if may.startswith("nothing") else set(re.findall(r"`(\w+)`", may))
    below = {one for name in named for one in allowed(name, table)} if "and below" in may else set()
    return named | below


@cache
def imported() -> dict[str, set[str]]:
    """The top-level packages and modules that each of them imports, anywhere in its files."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
                names = [f"{PACKAGE.name}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            ours = {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE.name}.")}
            found.setdefault(layer, set()).update(ours - {layer})
    return found


def test_the_table_has_every_layer_and_no_other() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert set(layers()) == {name for name in there if name != "__pycache__"} - BESIDE


@pytest.mark.parametrize("layer", sorted(layers()))
def test_a_layer_imports_what_the_table_allows(layer: str) -> None:
    assert imported().get(layer, set()) - BESIDE <= allowed(layer, layers())


@pytest.mark.parametrize(
    "page", [DOCS / "architecture.md", *sorted(DECISIONS.glob("*.md"))], ids=lambda page: page.stem
)
def test_files_that_a_page_names_exist(page: Path) -> None:
    files = {path.relative_to(ROOT).as_posix() for top in (PACKAGE, ROOT / "tests") for path in top.rglob("*.py")}
    named = re.findall(r"`([\w/]+\.py)`", page.read_text())
    missing = [name for name in named if not any(file == name or file.endswith(f"/{name}") for file in files)]
    assert not missing


def test_the_index_lists_every_decision_by_number() -> None:
    index = (DECISIONS / "README.md").read_text()
    listed = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+?)\) \|", index, re.MULTILINE)
    pages = [page for page in sorted(DECISIONS.glob("*.md")) if page.name != "README.md"]
    assert [name for _, _, name in listed] == [page.name for page in pages]
    for (number, title, _), page in zip(listed, pages, strict=True):
        assert int(page.name[:4]) == int(number)
        assert page.read_text().startswith(f"# {number}. {title}\n"), page.name


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    picture = DOCS / "images" / "architecture.svg"
    text = picture.read_text()
    ElementTree.fromstring(text)
    assert "<text" in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"@import|@font-face|href=|url\((?!#)", text)
