"""Send requests to public addresses that users have entered, and refuse all others.

httpx sends them over a bare transport, which follows no redirects and takes no proxies or
credentials from the environment. It connects to the IP address that was checked; the `Host` header,
SNI and certificate verification use the hostname
(https://www.python-httpx.org/advanced/extensions/).
"""

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

import httpx
from django.conf import settings

TIMEOUT_SECONDS: Final = 10
_CONNECT_TIMEOUT_SECONDS: Final = 5
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# Contains an IPv4 address, which may be any.
_6TO4: Final = ipaddress.IPv6Network("2002::/16")
_PORTS: Final = {"http": 80, "https": 443}
_LAST_PORT: Final = 65_535

_tls: Final = cache(ssl.create_default_context)  # reads the certificates of all authorities
# At its end, `asyncio.run` waits for threads of its own, however long a name server takes.
_lookups: Final = ThreadPoolExecutor(4, "lookup")


class NotSent(Exception):
    """The request got no response; the text says why."""


def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Send `body` to `url`; return the status of the response, whose body is not read.

    Redirects are not followed. Addresses that are not public are refused, unless
    WEBHOOK_ALLOW_PRIVATE is set: the name is resolved once, all of its addresses are checked, and
    the connection goes to one of them. Errors: `NotSent`, within `TIMEOUT_SECONDS`.
    """
    try:
        return asyncio.run(_post(httpx.URL(url), headers, body))
    except TimeoutError:
        raise NotSent(f"no response within {TIMEOUT_SECONDS} seconds") from None
    except httpx.ConnectTimeout:
        raise NotSent(f"no connection within {_CONNECT_TIMEOUT_SECONDS} seconds") from None
    except httpx.RemoteProtocolError:
        # The library's own message quotes the response.
        raise NotSent("the response is not HTTP") from None
    except (OSError, httpx.TransportError) as error:
        raise NotSent(_reason(error)) from None
    except (ValueError, httpx.InvalidURL):
        raise NotSent("the address is not a valid URL") from None


async def _post(url: httpx.URL, headers: Mapping[str, str], body: bytes) -> int:
    if url.scheme not in _PORTS or not url.host:
        raise NotSent("the address must begin with http:// or https://")
    host, port = url.raw_host.decode(), url.port or _PORTS[url.scheme]
    if port > _LAST_PORT:
        raise ValueError
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False) as transport,
    ):
        request = httpx.Request(
            "POST",
            httpx.URL(
                scheme=url.scheme,
                host=await _checked_address(host, port),
                port=port,
                raw_path=url.raw_path,
            ),
            headers={
                "Host": url.netloc.decode(),
                "User-Agent": "energy-ingestion-engine",
                "Connection": "close",
                **headers,
            },
            content=body,
            extensions={
                "sni_hostname": host,
                "timeout": {"connect": _CONNECT_TIMEOUT_SECONDS},
            },
        )
        response = await transport.handle_async_request(request)
        await response.aclose()
        return response.status_code


async def _checked_address(host: str, port: int) -> str:
    """Return an address of `host`. Errors: `NotSent` if any of them is not public."""
    found = await asyncio.get_running_loop().run_in_executor(
        _lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
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


def _reason(error: BaseException) -> str:
    """Return why a connection failed, in the words of the system or of TLS."""
    # The libraries wrap the error of the system, each once.
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, ssl.SSLError | socket.gaierror) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "the connection broke"
