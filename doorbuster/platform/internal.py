"""The other end of a call from another process: token, caller's rights, arguments, the verb, its result or refusal."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec
import structlog

from doorbuster.platform import tracing
from doorbuster.platform.calls import VERBS, Ctx, Verb, encode_refusal
from doorbuster.platform.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Refusal,
    Unauthenticated,
    Unavailable,
)
from doorbuster.platform.remote import PREFIX, TIMEOUT_HEADER
from doorbuster.platform.rsgi import Protocol, RsgiApp, Scope, answer, body_of
from doorbuster.platform.service_token import Verifier

MAX_ARGUMENTS = 16_777_216
_LOG = structlog.get_logger("internal")
_ENCODER = msgspec.json.Encoder()
_JSON = [("content-type", "application/json")]


class InternalApi:
    """Answers `POST /internal/v1/{group}.{domain}.{verb}` for the domains of this process.

    200 with the result; 409 with a refusal as `encode_refusal` writes it; 503 when it cannot answer now; 401, 403, 404
    and 400 to whoever should not have asked, or asked for what this version does not have; 500 for a bug.
    """

    def __init__(self, serves: Collection[str], verifier: Verifier, may_call: Callable[[str, str], bool]) -> None:
        self._serves = frozenset(serves)
        self._verifier = verifier
        self._may_call = may_call

    async def serve(self, scope: Scope, protocol: Protocol) -> None:
        """Answer one call."""
        tracing.name_route(scope.path if scope.path.removeprefix(PREFIX) in VERBS else PREFIX)
        status, body = await self._answer(scope, protocol)
        answer(protocol, status, _JSON, body)

    async def _answer(self, scope: Scope, protocol: Protocol) -> tuple[int, bytes]:
        try:
            verb, arguments = await self._admit(scope, protocol)
        except Refusal as refusal:
            return refusal.status, encode_refusal(refusal)
        try:
            return 200, _ENCODER.encode(await verb.function(**arguments))
        except Refusal as refusal:
            return 409, encode_refusal(refusal)
        except Unavailable as error:
            unknown = isinstance(error, OutcomeUnknown)
            said = {"detail": str(error), "retry_after_s": error.retry_after_s, "is_unknown": unknown}
            return 503, _ENCODER.encode(said)
        except Exception as error:  # the boundary: a bug is logged here, and the caller learns that there is one
            request_id = arguments["ctx"].request_id
            _LOG.error("verb_failed", verb=verb.wire_id, request_id=request_id, exc_info=error)
            return 500, b'{"code":"internal_error"}'

    async def _admit(self, scope: Scope, protocol: Protocol) -> tuple[Verb, dict[str, Any]]:
        """The verb and its arguments. Refuses whoever may not ask, and what this version does not understand."""
        wire_id = scope.path.removeprefix(PREFIX)
        verb = VERBS.get(wire_id)
        if scope.method != "POST" or verb is None or verb.domain not in self._serves:
            raise NotFound(f"There is no verb {wire_id[:100]!r} here")
        kind, _, token = (scope.headers.get("authorization") or "").partition(" ")
        if kind.lower() != "bearer":
            raise Unauthenticated("This call needs a token of a service of this shop")
        caller = self._verifier.caller_of(token, verb.domain)
        if not self._may_call(caller, verb.domain):
            raise Forbidden(f"The map does not let {caller} call {verb.domain}")
        body = await body_of(scope, protocol, MAX_ARGUMENTS)
        try:
            arguments = verb.decode_arguments(body)
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f"{wire_id} takes other arguments: {error}") from None
        arguments["ctx"] = self._with_deadline(arguments["ctx"], scope.headers.get(TIMEOUT_HEADER) or "")
        return verb, arguments

    def _with_deadline(self, ctx: Ctx, timeout_ms: str) -> Ctx:
        """The caller's patience by this machine's clock: two machines' clocks differ, a duration does not."""
        if not timeout_ms.isdecimal() or len(timeout_ms) > 9:
            raise InvalidRequest(f"{TIMEOUT_HEADER} must be a number of milliseconds")
        return msgspec.structs.replace(ctx, deadline=time.time() + int(timeout_ms) / 1_000)


def with_internal(app: RsgiApp, api: InternalApi) -> RsgiApp:
    """`app`, with the calls of other services answered by `api`."""

    def outer(scope: Scope, protocol: Protocol) -> Awaitable[None]:
        return api.serve(scope, protocol) if scope.path.startswith(PREFIX) else app(scope, protocol)

    return outer
