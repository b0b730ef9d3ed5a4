"""Send requests to public addresses that users have entered, and refuse all others."""

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from django.conf import settings

TIMEOUT_SECONDS: Final = 10
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# Contains an IPv4 address, which may be any.
_6TO4: Final = ipaddress.IPv6Network("2002::/16")
_PORTS: Final = {"http": 80, "https": 443}

_tls: Final = cache(ssl.create_default_context)  # reads the certificates of all authorities


class NotSent(Exception):
    """The request got no response; the text says why."""


def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Send `body` to `url`; return the status of the response, of which no more is read.

    Redirects are not followed. Addresses that are not public are refused, unless
    WEBHOOK_ALLOW_PRIVATE is set: the name is resolved once, every address that it has is checked,
    and the connection goes to one of these. Errors: `NotSent`, within `TIMEOUT_SECONDS`.
    """
    try:
        return asyncio.run(_post(urlsplit(url), headers, body))
    except TimeoutError:
        raise NotSent(f"no response within {TIMEOUT_SECONDS} seconds") from None
    except OSError as error:
        raise NotSent(_reason(error)) from None
    except ValueError:
        raise NotSent("the address is not a URL, or the response is not HTTP") from None


async def _post(url: SplitResult, headers: Mapping[str, str], body: bytes) -> int:
    if url.scheme not in _PORTS or not url.hostname:
        raise NotSent("the address must begin with http:// or https://")
    host = url.hostname.encode("idna").decode()
    port = url.port or _PORTS[url.scheme]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        address = await _checked_address(host, port)
        reader, writer = await asyncio.open_connection(
            address,
            port,
            ssl=_tls() if url.scheme == "https" else None,
            server_hostname=host if url.scheme == "https" else None,
        )
        try:
            writer.write(_head(url, host, headers, len(body)) + body)
            await writer.drain()
            return await _status(reader)
        finally:
            writer.transport.abort()


async def _checked_address(host: str, port: int) -> str:
    """Return an address of `host`. Errors: `NotSent` where any of them is not public."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not settings.WEBHOOK_ALLOW_PRIVATE and not all(map(is_public, addresses)):
        raise NotSent("the address is not public; to allow it, set WEBHOOK_ALLOW_PRIVATE")
    # Clouds serve the secrets of their machines there, and nobody runs a receiver there.
    if any(map(_is_link_local, addresses)):
        raise NotSent("the address is link-local, which is never allowed")
    return addresses[0]


def is_public(address: str) -> bool:
    """Return whether an IP address is public: neither of this machine nor of its network."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return ip.is_global and ip in _GLOBAL_UNICAST and ip not in _6TO4
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _is_link_local(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_link_local


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError | socket.gaierror) or not error.errno:
        return error.strerror or type(error).__name__
    # Not asyncio's message, which describes the system call.
    return os.strerror(error.errno).lower()


def _head(url: SplitResult, host: str, headers: Mapping[str, str], length: int) -> bytes:
    target = quote(url.path or "/", safe="/%:@!$&'()*+,;=~")
    if url.query:
        target += "?" + quote(url.query, safe="/%:@!$&'()*+,;=~?")
    name = f"[{host}]" if ":" in host else host
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {name}:{url.port}" if url.port else f"Host: {name}",
        "User-Agent: energy-ingestion-engine",
        "Connection: close",
        f"Content-Length: {length}",
        *(f"{header}: {value}" for header, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _status(reader: asyncio.StreamReader) -> int:
    while True:
        version, status, *_ = (await reader.readline()).split(maxsplit=2)
        if not version.startswith(b"HTTP/1."):
            raise ValueError
        if int(status) >= 200:
            return int(status)
        # An interim response; another one follows its headers.
        while (await reader.readline()).strip():
            pass
