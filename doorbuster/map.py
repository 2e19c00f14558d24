"""THE architecture as data: groups in their order, domains, what each publishes and hears, and its routes.

Everything that must agree with the architecture is made from this file or tested against it: the import and event
rules, database schemas and roles, the edge's default-deny routes, and the picture in the README.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

GROUPS = ("user", "item", "commerce", "activation", "search", "review", "content", "external", "view")
"""Upstream first. A group may call, and hear the facts of, the groups before it, with the exception below."""

SIBLINGS = frozenset({"search", "review", "content", "external"})
"""Groups that do not see each other although one stands before the other."""


class Access(StrEnum):
    """Who may use a route. The edge checks that a token is valid; services check roles and ownership."""

    OPEN = "open"
    USER = "user"
    MERCHANT = "merchant"
    ADMIN = "admin"


class Route(msgspec.Struct, frozen=True):
    """One method on one path template of the API, and the limits the edge puts on it."""

    method: str
    path: str
    access: Access = Access.USER
    body_limit: int = 65_536
    timeout_s: float = 15.0
    rate_per_s: int = 0
    """Requests per second that the edge lets through before it answers 429; 0 means no limit of its own."""


class Domain(msgspec.Struct, frozen=True):
    """One service: its place in the map, whether it is built, its facts and its routes."""

    group: str
    name: str
    purpose: str
    built: bool = False
    publishes: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    """Facts of other domains it subscribes to, as `group.domain.Fact`."""
    routes: tuple[Route, ...] = ()

    @property
    def id(self) -> str:
        """`group.domain`, the name used everywhere: settings, topics, verbs, roles."""
        return f"{self.group}.{self.name}"


def _get(path: str, access: Access = Access.OPEN) -> Route:
    return Route("GET", path, access)


_ACCOUNT = (
    Route("POST", "/api/v1/account/signup", Access.OPEN, body_limit=4_096, rate_per_s=20),
    Route("POST", "/api/v1/account/login", Access.OPEN, body_limit=4_096, rate_per_s=20),
    Route("POST", "/api/v1/account/refresh", Access.OPEN, body_limit=4_096, rate_per_s=200),
    Route("POST", "/api/v1/account/logout", Access.USER, body_limit=4_096),
    _get("/api/v1/account/me", Access.USER),
    _get("/api/v1/account/jwks"),
)
_CATALOG = (
    _get("/api/v1/catalog"),
    _get("/api/v1/catalog/{item_id}"),
    _get("/api/v1/catalog/media/{name}"),
    Route("POST", "/api/v1/catalog", Access.MERCHANT, body_limit=262_144),
    Route("PUT", "/api/v1/catalog/{item_id}", Access.MERCHANT, body_limit=262_144),
    Route("POST", "/api/v1/catalog/import", Access.MERCHANT, body_limit=8_388_608, timeout_s=60),
)
_PRICE = (
    _get("/api/v1/price/{item_id}"),
    Route("PUT", "/api/v1/price/option/{option_id}", Access.MERCHANT),
    Route("POST", "/api/v1/price/option/{option_id}/sale", Access.MERCHANT),
    Route("POST", "/api/v1/price/import", Access.MERCHANT, body_limit=8_388_608, timeout_s=60),
)
_STOCK = (
    _get("/api/v1/stock/{option_id}", Access.MERCHANT),
    Route("PUT", "/api/v1/stock/{option_id}", Access.MERCHANT),
    Route("POST", "/api/v1/stock/import", Access.MERCHANT, body_limit=8_388_608, timeout_s=60),
)
_DEAL = (
    _get("/api/v1/deal"),
    _get("/api/v1/deal/{deal_id}"),
    Route("POST", "/api/v1/deal", Access.MERCHANT, timeout_s=30),
)
_PAYMENT = (
    _get("/api/v1/payment", Access.ADMIN),
    _get("/api/v1/payment/case", Access.ADMIN),
    Route("POST", "/api/v1/payment/case/{case_id}/settle", Access.ADMIN),
    _get("/api/v1/payment/instrument", Access.USER),
    Route("POST", "/api/v1/payment/instrument", Access.USER),
    Route("POST", "/api/v1/payment/instrument/forget", Access.USER),
    _get("/api/v1/payment/provider", Access.ADMIN),
    Route("POST", "/api/v1/payment/provider/{account}/force", Access.ADMIN),
    Route("POST", "/api/v1/payment/webhook/{account}/event", Access.OPEN),
    _get("/api/v1/payment/routing", Access.ADMIN),
    Route("PUT", "/api/v1/payment/routing", Access.ADMIN),
    Route("POST", "/api/v1/payment/routing/try", Access.ADMIN),
    _get("/api/v1/payment/{payment_id}", Access.USER),
    Route("POST", "/api/v1/payment/{payment_id}/confirm", Access.USER, timeout_s=30),
    Route("PUT", "/api/v1/payment/{payment_id}/refund-account", Access.USER),
    _get("/api/v1/payment/{payment_id}/decision", Access.ADMIN),
    Route("POST", "/api/v1/payment/{payment_id}/refund", Access.ADMIN, timeout_s=30),
)
_LEDGER = (
    _get("/api/v1/ledger/account", Access.ADMIN),
    _get("/api/v1/ledger/reconciliation", Access.ADMIN),
    Route("POST", "/api/v1/ledger/settlement", Access.ADMIN, body_limit=8_388_608, timeout_s=60),
    _get("/api/v1/ledger/case", Access.ADMIN),
    Route("POST", "/api/v1/ledger/case/{case_id}/close", Access.ADMIN),
)
_ORDER = (
    Route("POST", "/api/v1/order", Access.USER, timeout_s=30),
    _get("/api/v1/order", Access.USER),
    _get("/api/v1/order/{order_id}", Access.USER),
    _get("/api/v1/order/{order_id}/timeline", Access.USER),
    Route("POST", "/api/v1/order/{order_id}/pay", Access.USER, timeout_s=30),
    Route("POST", "/api/v1/order/{order_id}/cancel", Access.USER, timeout_s=30),
)


def _event_routes(name: str) -> tuple[Route, ...]:
    """What every domain that hears facts answers to admins."""
    path = f"/api/v1/{name}/event"
    return (
        _get(path, Access.ADMIN),
        _get(f"{path}/dead-letter", Access.ADMIN),
        _get(f"{path}/dead-letter/{{seq}}", Access.ADMIN),
        Route("POST", f"{path}/dead-letter/requeue", Access.ADMIN),
        Route("POST", f"{path}/dead-letter/drop", Access.ADMIN),
        Route("POST", f"{path}/replay", Access.ADMIN, timeout_s=60),
    )


DOMAINS: tuple[Domain, ...] = (
    Domain("user", "account", "who somebody is: sign-up, login, tokens, roles", built=True, routes=_ACCOUNT),
    Domain("user", "address", "where things are sent"),
    Domain("user", "point", "points earned and spent"),
    Domain(
        "item",
        "catalog",
        "what is sold: items, options, brands, categories, media",
        built=True,
        publishes=("ItemChanged",),
        routes=_CATALOG,
    ),
    Domain(
        "item",
        "price",
        "what it costs: list prices and scheduled sale prices",
        built=True,
        publishes=("PriceChanged",),
        hears=("item.catalog.ItemChanged",),
        routes=_PRICE + _event_routes("price"),
    ),
    Domain(
        "item",
        "stock",
        "how many there are: options, items, allotments, limits, reservations",
        built=True,
        publishes=("StockChanged", "AllotmentChanged"),
        routes=_STOCK,
    ),
    Domain("commerce", "cart", "what somebody means to buy"),
    Domain(
        "commerce",
        "payment",
        "money in and back: payments, attempts, refunds",
        built=True,
        publishes=("PaymentSettled", "PaymentReopened", "MoneyMoved"),
        routes=_PAYMENT,
    ),
    Domain(
        "commerce",
        "ledger",
        "the books of all money, compared with what providers settle",
        built=True,
        hears=("commerce.payment.MoneyMoved",),
        routes=_LEDGER + _event_routes("ledger"),
    ),
    Domain("commerce", "delivery", "how it travels"),
    Domain(
        "commerce",
        "order",
        "the order process: state machine, orchestration, timeline",
        built=True,
        publishes=("OrderPlaced", "OrderPaid", "OrderCancelled", "OrderExpired", "OrderRefunded"),
        hears=("commerce.payment.PaymentSettled", "commerce.payment.PaymentReopened"),
        routes=_ORDER + _event_routes("order"),
    ),
    Domain("commerce", "claim", "cancellation, exchange and return after payment"),
    Domain("commerce", "settlement", "what sellers are owed"),
    Domain("activation", "coupon", "personal discounts as signed offers"),
    Domain(
        "activation",
        "deal",
        "time deals: window, deal price, allotment, customer limit",
        built=True,
        hears=("item.stock.AllotmentChanged",),
        routes=_DEAL + _event_routes("deal"),
    ),
    Domain("activation", "campaign", "paced pushes"),
    Domain("activation", "experiment", "assignment and exposure"),
    Domain("activation", "waiting", "the waiting room"),
    Domain("search", "query", "search in Korean and English"),
    Domain("search", "recommend", "what else somebody may like"),
    Domain("review", "rating", "stars and words"),
    Domain("review", "question", "questions and answers"),
    Domain("content", "page", "editorial pages"),
    Domain("content", "live", "live commerce shows"),
    Domain("external", "partner", "partners and their keys"),
    Domain("external", "webhook", "signed webhooks out"),
    Domain("external", "feed", "feeds and exports"),
    Domain("view", "product", "the denormalised product document"),
)

BY_ID = {domain.id: domain for domain in DOMAINS}
BUILT = tuple(domain for domain in DOMAINS if domain.built)

SHOP_ROUTES = (
    _get("/"),
    _get("/api/v1/openapi.json"),
    _get("/api/v1/asyncapi.json", Access.USER),
    _get("/api/v1/docs"),
    _get("/api/v1/docs/{name}"),
    _get("/livez", Access.USER),
    _get("/readyz", Access.USER),
    _get("/metrics", Access.ADMIN),
)
"""What the shop as a whole answers. Probes ask each process on its own socket; through the edge they need a token."""

ROUTES: tuple[Route, ...] = tuple(route for domain in BUILT for route in domain.routes) + SHOP_ROUTES


def heard_by_source(domain: Domain) -> dict[str, tuple[str, ...]]:
    """The types of facts that a domain hears, by the domain that tells them."""
    return {source: heard_from(domain, source) for source in dict.fromkeys(f.rpartition(".")[0] for f in domain.hears)}


def heard_from(domain: Domain, source: str) -> tuple[str, ...]:
    """The types of facts that a domain hears of another."""
    return tuple(fact.rpartition(".")[2] for fact in domain.hears if fact.rpartition(".")[0] == source)


def may_see(domain_id: str, other_id: str) -> bool:
    """Whether `domain_id` may call `other_id` and hear its facts: the one arrow rule of the architecture."""
    here, there = BY_ID[domain_id], BY_ID[other_id]
    if here.group == there.group:
        order = [domain.name for domain in DOMAINS if domain.group == here.group]
        return order.index(there.name) < order.index(here.name)
    if {here.group, there.group} <= SIBLINGS:
        return False
    return GROUPS.index(there.group) < GROUPS.index(here.group)
