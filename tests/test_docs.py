"""What README and docs show runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)


QUICK = {"README.md", "quickstart.md", "uncertainty.md"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=p.name, marks=[pytest.mark.slow][p.name in QUICK :])
        for p in PAGES
        if blocks(p, "python")
    ],
)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)


def test_readme_commands_are_one_line_each() -> None:
    commands = blocks(ROOT / "README.md", "bash")
    assert len(commands) == 2
    assert all(command.strip().count("\n") == 0 for command in commands)
    assert "bayesclust fit examples/data/old_faithful.csv" in commands[0]
    text = (ROOT / "README.md").read_text()
    marked = re.search(r"<!-- test-command -->(.*?)<!-- /test-command -->", text, re.S)
    assert marked is not None
    assert commands[1] in marked[1]


def test_pages_are_in_the_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    listed = re.search(r"```\{toctree\}(.*?)```", index, re.S)
    assert listed is not None
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or page.stem in listed[1].split()
