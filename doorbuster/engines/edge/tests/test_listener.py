"""The door itself: TLS versions, HTTP/2, a new certificate, and no plain text."""

from __future__ import annotations

import asyncio
import json
import ssl

import msgspec
import pytest

from doorbuster.engines import edge
from doorbuster.engines.edge.tests.client import DEADLINE_S, ask, tls
from doorbuster.engines.edge.tests.conftest import Shop, free_port, model_in
from doorbuster.engines.edge.tests.tokens import make_certificate

HEADERS, DATA, SETTINGS, END_STREAM, END_HEADERS = 1, 0, 4, 1, 4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field without indexing and without Huffman coding (RFC 7541 §6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def _ask_h2(port: int, path: bytes) -> bytes:
    """The body of a GET over HTTP/2, spoken by hand."""
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
    block = b"".join(_literal(name, value) for name, value in fields)
    raw = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, b"")
    raw += _frame(HEADERS, END_STREAM | END_HEADERS, 1, block)
    body = b""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls("h2"))
        try:
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            writer.write(raw)
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == DATA:
                    body += payload
                if head[3] in (DATA, HEADERS) and head[4] & END_STREAM:
                    return body
        finally:
            writer.transport.abort()


async def test_http2_is_served_and_refused_like_http1(shop: Shop) -> None:
    assert json.loads(await _ask_h2(shop.port, b"/api/v1/catalog"))["target"] == "/api/v1/catalog"
    assert json.loads(await _ask_h2(shop.port, b"/api/v1/order"))["code"] == "unauthenticated"
    assert json.loads(await _ask_h2(shop.port, b"/API/v1/order"))["code"] == "not_found"
    assert [seen.target for seen in shop.book.seen] == ["/api/v1/catalog"]


async def test_plain_text_is_not_answered(shop: Shop) -> None:
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in await reader.read(100)
        writer.transport.abort()


@pytest.mark.filterwarnings("ignore:.*TLSv1_1.*:DeprecationWarning")
async def test_tls_before_1_2_is_refused_and_1_2_and_1_3_are_served(shop: Shop) -> None:
    async def handshake(version: ssl.TLSVersion) -> str | None:
        context = tls()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        _, writer = await asyncio.open_connection("127.0.0.1", shop.port, ssl=context)
        spoken = writer.get_extra_info("ssl_object").version()
        writer.transport.abort()
        return str(spoken)

    assert await handshake(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert await handshake(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        await handshake(ssl.TLSVersion.TLSv1_1)


async def _certificate(port: int) -> bytes:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls())
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return bytes(shown)


async def test_a_new_certificate_is_shown_without_a_restart(own_shop: Shop) -> None:
    before = await _certificate(own_shop.port)
    certificate, key = make_certificate(own_shop.directory, "second")
    model = msgspec.structs.replace(own_shop.model, certificate_path=certificate, key_path=key)
    assert edge.write(edge.render(model), own_shop.directory) == ("sds.json",)
    async with asyncio.timeout(10):
        while await _certificate(own_shop.port) == before:
            await asyncio.sleep(0.02)


async def test_a_taken_port_is_not_shared(own_shop: Shop) -> None:
    directory = own_shop.directory / "second"
    directory.mkdir()
    model = model_in(directory, port=own_shop.port)
    edge.write(edge.render(model), directory)
    process = await asyncio.create_subprocess_exec(
        *edge.command(model), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, complaint = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode != 0
    assert b"Address already in use" in complaint
    assert free_port() != own_shop.port
    assert (await ask(own_shop.port, "GET", "/api/v1/catalog")).status == 200
