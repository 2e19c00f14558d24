"""Reads what the documents claim: commands, links, paths of files; and says which of it is not so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from doorbuster.surfaces.cli.main import app, with_plain_split

ROOT = Path(__file__).parents[2]
FOLDERS = ("designs", "decisions", "incidents", "docs")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
_TOP_LEVEL = {entry.name for entry in ROOT.iterdir()} - {".doorbuster", ".venv"}
_MACHINE = re.compile(r"\.\./shared|(?<![\w.])/(?:work|tmp|root|home)/")
_SUBSTITUTION = re.compile(r"\$\((.*?)\)")
_STARTS = ("make ", "doorbuster ", ".venv/bin/doorbuster ")
_ENDS_COMMAND = {"|", "&&", ";", ">", "<", "||"}


def documents() -> list[Path]:
    """Every document of the project that people read."""
    found = [*ROOT.glob("*.md")]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


def commands(text: str) -> Iterator[str]:
    """Every `make …` and `doorbuster …` in code blocks of shell and in code spans."""
    spans = _SPAN.findall(_BLOCK.sub("", text))
    lines = [
        line.strip()
        for language, body in _BLOCK.findall(text)
        if language in ("sh", "bash", "text")
        for line in body.replace("\\\n", " ").splitlines()
    ]
    for piece in spans + lines:
        # What a frame of the terminal stands around is a command too.
        piece = piece.strip("│ ").split("   ")[0].strip()
        for candidate in (piece, *_SUBSTITUTION.findall(piece)):
            if candidate.startswith(_STARTS):
                yield candidate


def wrong_command(command: str) -> str:
    """Why this command line would not be understood, or an empty text."""
    words = shlex.split(command, comments=True)
    for index, word in enumerate(words):
        if word in _ENDS_COMMAND:
            words = words[:index]
            break
    if words[0] == "make":
        targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))
        named = [word for word in words[1:] if "=" not in word]
        unknown = [word for word in named if word not in targets]
        return f"the Makefile has no target {unknown[0]}" if unknown else ""
    return _wrong_arguments(typer.main.get_command(app), with_plain_split(words[1:]))


def _wrong_arguments(command: Any, words: list[str]) -> str:
    # `Any`: typer brings a click of its own, whose classes are private.
    options = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    positional = list(_without_options(words, options))
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in options]
    children = getattr(command, "commands", None)
    if children is not None and positional:
        name = positional[0]
        if name == "…":  # stands for any command
            return ""
        if name not in children:
            return f"there is no command {name}"
        return _wrong_arguments(children[name], words[words.index(name) + 1 :])
    unknown = [word for word in unknown if word != "--help"]
    if unknown:
        return f"{command.name} has no option {unknown[0]}"
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    takes = len(positional) if any(one.nargs == -1 for one in arguments) else len(arguments)
    return f"{command.name} takes no argument {positional[takes]}" if len(positional) > takes else ""


def _without_options(words: list[str], options: dict[str, Any]) -> Iterator[str]:
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            option = options.get(word)
            skip = option is not None and not option.is_flag and "=" not in word
        else:
            yield word


def broken_links(document: Path, text: str) -> list[str]:
    """Relative links that lead nowhere."""
    targets = [link.split("#")[0] for link in _LINK.findall(_BLOCK.sub("", text))]
    return [
        target
        for target in targets
        if target and "://" not in target and not (document.parent / target).resolve().exists()
    ]


def missing_files(text: str) -> list[str]:
    """Paths in code spans and in the README's tree that begin like a path of the project and do not exist."""
    words = [word for span in _SPAN.findall(_BLOCK.sub("", text)) for word in span.split()]
    words += [
        word
        for language, body in _BLOCK.findall(text)
        if language in ("text", "sh")
        for line in body.splitlines()
        for word in line.split()
    ]
    missing = []
    for word in words:
        path = word.strip(",;:()\"'").split("::")[0]
        if "/" not in path or path.split("/")[0] not in _TOP_LEVEL:
            continue
        if any(sign in path for sign in "…{<*$"):
            continue
        if not (ROOT / path).exists():
            missing.append(path)
    return missing


def machine_paths(text: str) -> list[str]:
    """Mentions of places that exist on one machine only."""
    return _MACHINE.findall(text)
