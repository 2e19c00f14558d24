"""What a change of a payload's JSON Schema breaks for those who listen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WORDS = ("title", "description", "$schema")
_MAX_DEPTH = 20


def breaks(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each reason why somebody who understood the recorded payload may not understand today's; empty when none.

    A new field is no reason. A field that has gone, that may be missing now, or that takes another kind of value, is.
    """
    return list(_compare(recorded, recorded, now, now, "payload", 0))


def _compare(
    old_root: Mapping[str, Any], old: Mapping[str, Any], new_root: Mapping[str, Any], new: Mapping[str, Any],
    path: str, depth: int,
) -> Iterator[str]:  # fmt: skip
    old, new = _resolve(old_root, old), _resolve(new_root, new)
    if depth > _MAX_DEPTH:
        yield f"{path} is nested too deeply to compare"
        return
    for name, field in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{path}.{name} has gone"
            continue
        if name in old.get("required", ()) and name not in new.get("required", ()):
            yield f"{path}.{name} may be missing now"
        yield from _compare(old_root, field, new_root, new["properties"][name], f"{path}.{name}", depth + 1)
    if "items" in old and "items" in new:
        yield from _compare(old_root, old["items"], new_root, new["items"], f"{path}[]", depth + 1)
    yield from _variants(old_root, old, new_root, new, path, depth)
    rest = [word for word in {*old, *new} if word not in {"properties", "required", "items", "anyOf", "$defs", *_WORDS}]
    for word in sorted(rest):
        if old.get(word) != new.get(word):
            yield f"{path}: {word} was {old.get(word)!r} and is {new.get(word)!r}"


def _variants(
    old_root: Mapping[str, Any], old: Mapping[str, Any], new_root: Mapping[str, Any], new: Mapping[str, Any],
    path: str, depth: int,
) -> Iterator[str]:  # fmt: skip
    if len(old.get("anyOf", ())) != len(new.get("anyOf", ())):
        yield f"{path} takes other kinds of values"
        return
    for index, (one, other) in enumerate(zip(old.get("anyOf", ()), new.get("anyOf", ()), strict=True)):
        yield from _compare(old_root, one, new_root, other, f"{path}|{index}", depth + 1)


def _resolve(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Mapping[str, Any] = root["$defs"][reference.rsplit("/", 1)[1]]
    return found
