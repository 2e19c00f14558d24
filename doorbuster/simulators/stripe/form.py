"""Form bodies and queries in Stripe's bracket notation, read into nested values: hostile until they were read here.

`metadata[order_id]=7&expand[]=latest_charge` is {"metadata": {"order_id": "7"}, "expand": ["latest_charge"]}; the
official SDK numbers the places of an array (`expand[0]`), which comes out the same.
Source: docs.stripe.com/api (request bodies are form-encoded) and the SDK's `_encode.py`.
"""

import re
from typing import Any
from urllib.parse import parse_qsl

from doorbuster.simulators.stripe.errors import Invalid

MAX_FIELDS = 500
MAX_DEPTH = 6
KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")

Tree = dict[str, Any]


def read_form(raw: str) -> Tree:
    """Raises Invalid for what is no form, too long, too deep, or names one thing as a value and as a hash."""
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise Invalid("The parameters cannot be read as a form.") from error
    tree: Tree = {}
    for key, value in pairs:
        _put(tree, key, value)
    return {name: _arrays(value) for name, value in tree.items()}


def _put(tree: Tree, key: str, value: str) -> None:
    match = KEY.fullmatch(key)
    if match is None:
        raise Invalid("A parameter's name cannot be read.", "parameter_unknown", key[:200])
    names = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
    if len(names) > MAX_DEPTH or "" in names[:-1]:
        raise Invalid("A parameter is nested too deep.", "parameter_unknown", key[:200])
    at = tree
    for name in names[:-1]:
        at = at.setdefault(name, {})
        if not isinstance(at, dict):
            raise Invalid(f"{name} is a value and a hash.", param=match[1][:200])
    last = names[-1]
    if last == "" and len(names) > 1:
        # A place without a number is the next one: `[]` twice are two places.
        last = str(len(at))
    if isinstance(at.get(last), dict):
        raise Invalid(f"{last} is a value and a hash.", param=match[1][:200])
    at[last] = value


def _arrays(value: Any) -> Any:
    """A hash whose names are 0, 1, 2, … is an array."""
    if not isinstance(value, dict):
        return value
    inner = {name: _arrays(item) for name, item in value.items()}
    if inner and set(inner) == {str(at) for at in range(len(inner))}:
        return [inner[str(at)] for at in range(len(inner))]
    return inner
