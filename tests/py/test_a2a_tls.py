"""Agents behind TLS: whose certificate is accepted, and what that is worth."""

from __future__ import annotations

import asyncio
import datetime
import ssl

import pytest
from a2a_stub import Official, run
from ruvector.a2a import A2aClient, Retry, TaskSpec, Timeouts
from ruvector.errors import TransportError

x509 = pytest.importorskip("cryptography.x509", reason="the package cryptography is not installed")

FAST = {"retry": Retry(attempts=1), "timeouts": Timeouts(read=30.0)}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for the name localhost, signed by itself; its file and its key's."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def agent(certificate):
    agent = Official("1.0")
    agent.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    agent.tls.load_cert_chain(*certificate)
    return agent


def trusting(certificate):
    return ssl.create_default_context(cafile=certificate[0])


def test_a_certificate_that_is_trusted(agent, certificate):
    async def main():
        async with agent:
            client = await A2aClient.connect(agent.url, tls=trusting(certificate), **FAST)
            async with client:
                assert client.trust.level == "tls"
                task = await client.send_task(TaskSpec("echo", "hi"), wait=True)
                assert task.text == "hi"
                kinds = [u.kind async for u in client.stream_task(TaskSpec("echo", "hi"))]
                assert kinds == ["task", "artifact", "status"]
            assert {request.headers["host"] for request in agent.requests} == {
                f"localhost:{agent.port}"
            }

    run(main())


def test_certificates_that_are_not(agent, certificate):
    async def main():
        async with agent:
            with pytest.raises(TransportError, match=r"(?i)certificate") as caught:
                await A2aClient.connect(agent.url, **FAST)  # signed by nobody known
            assert caught.value.phase == "connect"
            other = agent.url.replace("localhost", "127.0.0.1")
            with pytest.raises(TransportError, match=r"(?i)certificate|mismatch"):
                await A2aClient.connect(other, tls=trusting(certificate), **FAST)

    run(main())


def test_the_name_counts_and_not_the_address_that_was_checked(agent, certificate, monkeypatch):
    async def getaddrinfo(self, host, port, **options):
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)

    async def main():
        async with agent:
            other = agent.url.replace("localhost", "agent.example.com")
            with pytest.raises(TransportError, match=r"(?i)certificate|mismatch"):
                await A2aClient.connect(other, tls=trusting(certificate), **FAST)

    run(main())


def test_a_certificate_nobody_checks_proves_nothing(agent):
    async def main():
        lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        lax.check_hostname = False
        lax.verify_mode = ssl.CERT_NONE
        async with agent, await A2aClient.connect(agent.url, tls=lax, **FAST) as client:
            assert client.trust.level == "none"

    run(main())
