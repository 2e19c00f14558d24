"""Reads the parameters of a call against a table of what it takes: unknown, missing and wrong ones are 400s.

Codes: docs.stripe.com/error-codes (parameter_unknown, parameter_missing, parameter_invalid_empty,
parameter_invalid_integer). A parameter the vendor takes and this simulator does not act on is refused with the code
`not_simulated`, which is ours: better a 400 than a payment that ignores half of what was asked.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from doorbuster.simulators.stripe.errors import Invalid, missing
from doorbuster.simulators.stripe.form import Tree

MAX_TEXT = 5000
MAX_METADATA = 50
MAX_METADATA_KEY = 40
MAX_METADATA_VALUE = 500

Read = Callable[[Any, str], Any]
Schema = Mapping[str, Read]
Ask = TypeVar("Ask")


def read(tree: Tree, schema: Schema, type_: type[Ask], required: tuple[str, ...] = ()) -> Ask:
    """The call's parameters as a value. Raises Invalid for the first thing wrong."""
    unknown = [name for name in tree if name not in schema]
    if unknown:
        raise Invalid(f"Unknown parameters: {', '.join(unknown)[:500]}.", "parameter_unknown", unknown[0][:200])
    for name in required:
        if name not in tree:
            raise missing(name)
    return msgspec.convert({name: schema[name](value, name) for name, value in tree.items()}, type_)


def text(at_most: int = MAX_TEXT) -> Read:
    def read_text(value: Any, name: str) -> str:
        given = _scalar(value, name)
        if len(given) > at_most:
            raise Invalid(f"{name} is longer than {at_most} characters.", param=name)
        return given

    return read_text


def whole(at_least: int = 0, at_most: int = 2**53) -> Read:
    def read_whole(value: Any, name: str) -> int:
        given = _scalar(value, name)
        digits = given.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 16):
            raise Invalid(f"{name} is not an integer.", "parameter_invalid_integer", name)
        if not at_least <= int(given) <= at_most:
            raise Invalid(f"{name} is {at_least} to {at_most}.", "parameter_invalid_integer", name)
        return int(given)

    return read_whole


def truth(value: Any, name: str) -> bool:
    given = _scalar(value, name)
    if given not in ("true", "false"):
        raise Invalid(f"{name} is true or false.", param=name)
    return given == "true"


def one_of(*allowed: str) -> Read:
    def read_one(value: Any, name: str) -> str:
        given = _scalar(value, name)
        if given not in allowed:
            raise Invalid(f"{name} is one of {', '.join(allowed)}.", param=name)
        return given

    return read_one


def truth_or(*allowed: str) -> Read:
    """true and false, or one of the words, which all mean true."""

    def read_either(value: Any, name: str) -> bool:
        return True if value in allowed else truth(value, name)

    return read_either


def texts(at_most: int = 20) -> Read:
    def read_texts(value: Any, name: str) -> list[str]:
        if not isinstance(value, list):
            raise Invalid(f"{name} is an array.", param=name)
        if len(value) > at_most:
            raise Invalid(f"{name} has more than {at_most} places.", param=name)
        return [_scalar(item, f"{name}[{at}]") for at, item in enumerate(value)]

    return read_texts


def hash_of(schema: Schema, required: tuple[str, ...] = ()) -> Read:
    def read_hash(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Invalid(f"{name} is a hash.", param=name)
        for inner in value:
            if inner not in schema:
                raise Invalid(f"Unknown parameter: {name}[{inner}].", "parameter_unknown", f"{name}[{inner}]"[:200])
        for inner in required:
            if inner not in value:
                raise missing(f"{name}[{inner}]")
        return {inner: schema[inner](item, f"{name}[{inner}]") for inner, item in value.items()}

    return read_hash


def metadata(value: Any, name: str) -> dict[str, str]:
    """docs.stripe.com/api/metadata: 50 keys of 40 characters without brackets, values of 500; an empty value unsets."""
    if value == "":
        return {}
    if isinstance(value, list):
        value = {str(at): item for at, item in enumerate(value)}
    if not isinstance(value, dict):
        raise Invalid(f"{name} is a hash.", param=name)
    if len(value) > MAX_METADATA:
        raise Invalid(f"{name} has more than {MAX_METADATA} keys.", param=name)
    for key, item in value.items():
        if not isinstance(item, str):
            raise Invalid(f"{name} holds texts only.", param=f"{name}[{key}]"[:200])
        if len(key) > MAX_METADATA_KEY or len(item) > MAX_METADATA_VALUE:
            raise Invalid(f"{name} has a key or value that is too long.", param=f"{name}[{key}]"[:200])
    return {key: item for key, item in value.items() if item != ""}


def not_simulated(_value: Any, name: str) -> Any:
    raise Invalid(f"{name} is known to the vendor and not simulated.", "not_simulated", name)


def not_simulated_all(*names: str) -> Schema:
    return dict.fromkeys(names, not_simulated)


def span(value: Any, name: str) -> dict[str, int]:
    """`created`: a second, or gt, gte, lt, lte of it."""
    if isinstance(value, str):
        at = whole()(value, name)
        return {"gte": at, "lte": at}
    bounds: dict[str, int] = hash_of(dict.fromkeys(("gt", "gte", "lt", "lte"), whole()))(value, name)
    return bounds


def _scalar(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{name} is a text.", param=name)
    if value == "":
        raise Invalid(f"{name} is empty; leave it out.", "parameter_invalid_empty", name)
    return value
