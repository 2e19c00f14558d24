"""What the documents say must be so: commands, options, links and paths of files exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import claims

DOCUMENTS = claims.documents()
NAMES = [str(document.relative_to(claims.ROOT)) for document in DOCUMENTS]
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)


def test_the_documents_are_found() -> None:
    assert {"README.md", "ARCHITECTURE.md", "STYLE.md", "CONTRIBUTING.md", "designs/time-deal.md"} <= set(NAMES)
    assert "make up" in [command.split("  ")[0] for command in claims.commands((claims.ROOT / "README.md").read_text())]


@every_document
def test_every_command_exists(document: Path) -> None:
    wrong = {
        command: why for command in claims.commands(document.read_text()) if (why := claims.wrong_command(command))
    }
    assert not wrong


@every_document
def test_every_link_leads_somewhere(document: Path) -> None:
    assert claims.broken_links(document, document.read_text()) == []


@every_document
def test_every_file_that_is_named_exists(document: Path) -> None:
    assert claims.missing_files(document.read_text()) == []


@every_document
def test_no_document_names_a_place_on_somebodys_machine(document: Path) -> None:
    assert claims.machine_paths(document.read_text()) == []


@pytest.mark.parametrize("folder", ["decisions", "incidents"])
def test_every_record_is_listed(folder: str) -> None:
    listed = (claims.ROOT / folder / "README.md").read_text()
    records = [path.name for path in (claims.ROOT / folder).glob("[0-9]*.md")]
    assert records
    assert [name for name in records if f"({name})" not in listed] == []


@pytest.mark.parametrize(
    "command",
    [
        "make",
        "make test ARGS=x",
        "doorbuster up --detach --port 1",
        ".venv/bin/doorbuster import FILE.csv --dry-run  # a remark",
        "doorbuster status --json | head",
        "doorbuster --help",
    ],
)
def test_a_right_command_passes(command: str) -> None:
    assert claims.wrong_command(command) == ""


@pytest.mark.parametrize(
    "command",
    ["make coffee", "doorbuster upp", "doorbuster up --ports 1", "doorbuster down now", "doorbuster drill nothing"],
)
def test_a_planted_wrong_command_is_caught(command: str) -> None:
    assert claims.wrong_command(command) != ""


def test_planted_breaches_are_caught() -> None:
    here = claims.ROOT / "README.md"
    assert claims.broken_links(here, "See [this](no/such/file.md).") == ["no/such/file.md"]
    assert claims.missing_files("It stands in `doorbuster/no_such.py`.") == ["doorbuster/no_such.py"]
    assert claims.missing_files("```text\ndoorbuster/no_such.py   the tree\n```\n") == ["doorbuster/no_such.py"]
    assert claims.machine_paths("It lies in /" + "work/somewhere.") != []
    assert list(claims.commands("```sh\nTOKEN=$(.venv/bin/doorbuster tokn)\n```\n")) == [".venv/bin/doorbuster tokn"]
