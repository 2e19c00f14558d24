"""How the built domains are laid out over processes: all in one, one process per group, or one per domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from doorbuster import map

Split = Literal["", "group", "domain"]
SPLITS: tuple[Split, ...] = ("", "group", "domain")
STOREFRONT = "storefront"
"""The surface that answers what belongs to no domain: the front page and the API's description."""
WHOLE = "shop"
"""The service that has everything."""


class Service(msgspec.Struct, frozen=True):
    """One kind of process: its name, the domains whose routes, verbs, consumers and sweepers it runs."""

    name: str
    domains: tuple[str, ...]
    has_storefront: bool = False

    @property
    def serves(self) -> tuple[str, ...]:
        """What its settings say; empty for the whole shop."""
        if self.name == WHOLE:
            return ()
        return (*self.domains, STOREFRONT) if self.has_storefront else self.domains


EVERYTHING = Service(WHOLE, tuple(domain.id for domain in map.BUILT), has_storefront=True)


def plan(split: Split) -> tuple[Service, ...]:
    """The services of a layout, upstream first, the storefront last."""
    if split == "":
        return (EVERYTHING,)
    if split == "domain":
        apart = [Service(domain.id, (domain.id,)) for domain in map.BUILT]
    else:
        groups = [(group, tuple(d.id for d in map.BUILT if d.group == group)) for group in map.GROUPS]
        apart = [Service(group, domains) for group, domains in groups if domains]
    return (*apart, Service(STOREFRONT, (), has_storefront=True))


def running(serves: Sequence[str]) -> Service:
    """What a process runs whose settings say this; nothing said is the whole shop."""
    if not serves:
        return EVERYTHING
    domains = tuple(domain.id for domain in map.BUILT if domain.id in serves)
    unknown = set(serves) - {*domains, STOREFRONT}
    assert not unknown, f"the settings name what is not built: {', '.join(sorted(unknown))}"
    return Service("+".join(serves), domains, STOREFRONT in serves)


def domains_of(service: str) -> tuple[str, ...]:
    """The built domains of a service, by its name: a group, a domain, or the whole shop; none for the storefront."""
    return tuple(d.id for d in map.BUILT if service in (d.id, d.group, WHOLE))


def may_call(service: str, domain: str) -> bool:
    """Whether the map lets a service call a domain: one of its domains may, or it is a surface, which may see all."""
    if service in (STOREFRONT, WHOLE):
        return domain in map.BY_ID
    return any(caller != domain and map.may_see(caller, domain) for caller in domains_of(service))
