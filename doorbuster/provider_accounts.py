"""The accounts of a shop at real payment providers: DATA/providers.toml, and what is wrong with it in plain words."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from doorbuster.engines.embedded import StartError
from doorbuster.engines.payment_router.provider import Flow, Login, Secret, WebhookKind
from doorbuster.engines.payment_router.providers import PROVIDERS
from doorbuster.platform.settings import ProviderLogin

FILE = "providers.toml"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
HOW = "docs/how-to/your-payment-providers.md has an example."


def read(data: Path) -> dict[str, ProviderLogin]:
    """By account, how it is reached. Empty when the shop has no such file: then it pays at the sandbox.

    Files of secrets are named relative to this one. Raises StartError that says what to mend; never with a secret.
    """
    file = data / FILE
    if not file.exists():
        return {}
    try:
        told = msgspec.toml.decode(file.read_bytes(), type=dict[str, ProviderLogin])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StartError(f"{file} cannot be read: {error}.", HOW) from error
    if not told:
        raise StartError(f"{file} names no account.", f"Remove it to pay at the sandbox. {HOW}")
    return {name: _checked(file, name, login) for name, login in told.items()}


def _checked(file: Path, name: str, login: ProviderLogin) -> ProviderLogin:
    if _NAME.fullmatch(name) is None:
        raise StartError(f"{file}: {name!r} is no name for an account.", "Use small letters, digits, - and _.")
    kind = login.kind or name
    if kind not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise StartError(f"{file}: [{name}] speaks {kind!r}, which no provider does.", f"Say kind = one of {known}.")
    capability = PROVIDERS[kind].CAPABILITY
    if capability.webhook is WebhookKind.SIGNED and kind == "stripe" and not login.webhook_secret_files:
        raise StartError(
            f"{file}: [{name}] has no webhook_secret_files.", "Stripe signs webhooks with a secret. " + HOW
        )
    if Flow.PREPARE_HERE in capability.flows and not login.client_key:
        raise StartError(f"{file}: [{name}] has no client_key.", "Its window is opened by the browser. " + HOW)
    login = msgspec.structs.replace(
        login,
        secret_file=_secret(file, name, login.secret_file),
        webhook_secret_files=tuple(_secret(file, name, one) for one in login.webhook_secret_files),
    )
    try:
        Login(login.base_url, Secret(""))
    except ValueError as error:
        raise StartError(f"{file}: [{name}] base_url: {error}.", HOW) from error
    return login


def _secret(file: Path, name: str, told: str) -> str:
    """The file of a secret, which is there and not empty."""
    found = (file.parent / told).resolve()
    try:
        has = bool(found.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{file}: [{name}] the secret in {found} cannot be read.", str(error)) from error
    if not has:
        raise StartError(f"{file}: [{name}] the secret in {found} is empty.", "Put the key into it, and nothing else.")
    return str(found)
