"""The local authority and server certificate, tried with real TLS handshakes."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from doorbuster.platform import tls


def _handshake(files: tls.LocalCertificates, trust: Path, name: str) -> str | None:
    """Serve once with the files and connect as a client that trusts `trust`; the TLS version agreed on."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.certificate, files.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def serve_once() -> None:
            connection, _ = listener.accept()
            try:
                with server_context.wrap_socket(connection, server_side=True) as served:
                    served.recv(1)
            except (ssl.SSLError, OSError):
                connection.close()

        serving = threading.Thread(target=serve_once)
        serving.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=5) as plain,
                tls.client_context(trust).wrap_socket(plain, server_hostname=name) as secured,
            ):
                secured.send(b"x")
                return secured.version()
        finally:
            serving.join(5)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", socket.gethostname().lower()])
def test_a_client_that_trusts_the_authority_is_served_under_every_local_name(tmp_path: Path, name: str) -> None:
    files = tls.ensure_local_certificates(tmp_path)
    assert _handshake(files, files.authority, name) == "TLSv1.3"


def test_a_name_that_is_not_this_machine_is_refused(tmp_path: Path) -> None:
    files = tls.ensure_local_certificates(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(files, files.authority, "shop.example")


def test_another_authority_does_not_vouch_for_this_server(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files, other = tls.ensure_local_certificates(tmp_path / "a"), tls.ensure_local_certificates(tmp_path / "b")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(files, other.authority, "localhost")


def test_a_second_start_keeps_both_certificates(tmp_path: Path) -> None:
    first = tls.ensure_local_certificates(tmp_path)
    marks = [tls.fingerprint(first.authority), tls.fingerprint(first.certificate)]
    again = tls.ensure_local_certificates(tmp_path)
    assert [tls.fingerprint(again.authority), tls.fingerprint(again.certificate)] == marks
    assert len(marks[0]) == 32 * 3 - 1


def test_private_keys_are_for_the_owner_alone_and_no_part_files_stay(tmp_path: Path) -> None:
    tls.ensure_local_certificates(tmp_path)
    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    assert modes == {"ca.key": 0o600, "server.key": 0o600, "ca.pem": 0o644, "server.pem": 0o644}


def test_the_server_certificate_is_renewed_with_less_than_thirty_days_left_under_the_same_authority(
    tmp_path: Path,
) -> None:
    now = datetime.now(UTC)
    files = tls.ensure_local_certificates(tmp_path, now)
    authority, server = tls.fingerprint(files.authority), tls.fingerprint(files.certificate)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=397)
    tls.ensure_local_certificates(tmp_path, now + timedelta(days=366))
    assert tls.fingerprint(files.certificate) == server
    tls.ensure_local_certificates(tmp_path, now + timedelta(days=368))
    assert tls.fingerprint(files.certificate) != server
    assert tls.fingerprint(files.authority) == authority


@pytest.mark.parametrize("damage", ["certificate", "key", "other key"])
def test_a_damaged_server_certificate_is_made_anew(tmp_path: Path, damage: str) -> None:
    files = tls.ensure_local_certificates(tmp_path)
    if damage == "other key":
        files.key.write_bytes((tmp_path / "ca.key").read_bytes())
    else:
        (files.certificate if damage == "certificate" else files.key).write_text("not PEM")
    files = tls.ensure_local_certificates(tmp_path)
    assert _handshake(files, files.authority, "localhost") == "TLSv1.3"


def test_a_start_killed_after_the_first_key_begins_again(tmp_path: Path) -> None:
    tls.ensure_local_certificates(tmp_path)
    for name in ("ca.pem", "server.pem", "server.key"):
        (tmp_path / name).unlink()
    (tmp_path / "ca.key.part").write_text("half a k")
    files = tls.ensure_local_certificates(tmp_path)
    assert _handshake(files, files.authority, "localhost") == "TLSv1.3"


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("ca.key", None, "ca.key is missing"),
        ("ca.key", "garbage", "ca.key is not a private key"),
        ("ca.pem", "garbage", "ca.pem is not a certificate"),
    ],
)
def test_a_damaged_authority_is_named_and_left_as_it_is(
    tmp_path: Path, file: str, content: str | None, says: str
) -> None:
    tls.ensure_local_certificates(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(tls.DamagedCertificate, match=says) as raised:
        tls.ensure_local_certificates(tmp_path)
    assert "remove ca.pem and ca.key" in raised.value.hint
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_key_of_another_authority_is_told(tmp_path: Path) -> None:
    files = tls.ensure_local_certificates(tmp_path)
    (tmp_path / "ca.key").write_bytes(files.key.read_bytes())
    with pytest.raises(tls.DamagedCertificate, match=r"does not belong to ca\.pem"):
        tls.ensure_local_certificates(tmp_path)
