"""The search language for payment intents, read into a test of one intent: pure.

Source: docs.stripe.com/search (clauses of field, operator and value joined by AND or by OR, never both, and by AND
where nothing is said; `-` negates;
`:` equals, `~` contains, `<` `<=` `>` `>=` compare numbers; `metadata['key']:null` is absence) and the fields of
payment intents: amount, created, currency, customer, metadata, status.
"""

import re
from collections.abc import Callable

from msgspec import Struct

from doorbuster.simulators.stripe.errors import Invalid
from doorbuster.simulators.stripe.intent import Intent

MAX_QUERY_CHARS = 2000
MAX_CLAUSES = 10

QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
CLAUSE = re.compile(
    rf"\s*(?P<no>-?)(?P<field>[a-z_]+)(?:\[(?P<key>{QUOTED})\])?\s*"
    rf"(?P<operator>>=|<=|:|~|<|>)\s*(?P<value>{QUOTED}|null|-?\d{{1,16}})(?:\s+(?P<join>(?i:AND|OR))(?=\s)|\s+(?=\S)|\s*\Z)"
)
TEXTS: dict[str, Callable[[Intent], str | None]] = {
    "currency": lambda intent: intent.currency,
    "customer": lambda intent: intent.customer,
    "status": lambda intent: intent.status,
}
NUMBERS: dict[str, Callable[[Intent], int]] = {
    "amount": lambda intent: intent.amount,
    "created": lambda intent: intent.created_ms // 1000,
}


class Clause(Struct, frozen=True):
    field: str
    key: str | None
    operator: str
    value: str | None
    negated: bool


class Query(Struct, frozen=True):
    clauses: tuple[Clause, ...]
    needs_all: bool

    def matches(self, intent: Intent) -> bool:
        found = (_holds(clause, intent) != clause.negated for clause in self.clauses)
        return all(found) if self.needs_all else any(found)

    @property
    def pair(self) -> tuple[str, str] | None:
        """A metadata pair every match has, to look it up by."""
        for clause in self.clauses if self.needs_all else ():
            if clause.key is not None and clause.operator == ":" and clause.value is not None and not clause.negated:
                return clause.key, clause.value
        return None


def read_query(text: str) -> Query:
    """Raises Invalid for what is not of the language."""
    if len(text) > MAX_QUERY_CHARS:
        raise Invalid("The query is too long.", param="query")
    clauses: list[Clause] = []
    joins: list[str] = []
    at = 0
    while at < len(text):
        match = CLAUSE.match(text, at)
        if match is None or len(clauses) >= MAX_CLAUSES:
            raise Invalid("The query cannot be read.", param="query")
        clauses.append(_clause(match))
        at = match.end()
        if at < len(text):
            joins.append((match["join"] or "AND").upper())
    if len(joins) != len(clauses) - 1 or len(set(joins)) > 1:
        raise Invalid("A query is clauses joined by AND, or by OR.", param="query")
    return Query(tuple(clauses), "OR" not in joins)


def _clause(match: re.Match[str]) -> Clause:
    field, key, operator, raw = match["field"], match["key"], match["operator"], match["value"]
    value = None if raw == "null" else _unquoted(raw)
    if field == "metadata":
        fits = key is not None and (operator == ":" or (operator == "~" and value is not None))
    elif field in TEXTS:
        fits = key is None and operator == ":" and value is not None
    else:
        is_number = value is not None and re.fullmatch(r"-?\d{1,16}", value) is not None
        fits = field in NUMBERS and key is None and operator != "~" and is_number
    if not fits:
        raise Invalid(f"The query cannot use {field} so.", param="query")
    return Clause(field, None if key is None else _unquoted(key), operator, value, match["no"] == "-")


def _unquoted(raw: str) -> str:
    return re.sub(r"\\(.)", r"\1", raw[1:-1]) if raw[:1] in ("'", '"') else raw


def _holds(clause: Clause, intent: Intent) -> bool:
    if clause.key is not None:
        has = intent.metadata.get(clause.key)
        if clause.operator == "~":
            return has is not None and clause.value is not None and clause.value.lower() in has.lower()
        return has == clause.value
    if clause.field in TEXTS:
        return TEXTS[clause.field](intent) == clause.value
    number, bound = NUMBERS[clause.field](intent), int(clause.value or 0)
    match clause.operator:
        case ":":
            return number == bound
        case "<":
            return number < bound
        case "<=":
            return number <= bound
        case ">":
            return number > bound
        case _:
            return number >= bound
