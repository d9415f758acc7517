"""Who is at the other end, when a proxy stands between: only proxies that are trusted are believed."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tableforge.config import Network

HeaderList = Iterable[tuple[bytes, bytes]]


class Peer(NamedTuple):
    """The client's address, and the scheme and host that it asked for (host in lower case, with its port if given)."""

    address: str
    scheme: str
    host: str

    @property
    def hostname(self) -> str:
        """The host without its port or the brackets of an IPv6 address."""
        if self.host.startswith("["):
            return self.host[1:].partition("]")[0]
        return self.host.partition(":")[0]

    @property
    def is_loopback(self) -> bool:
        """Whether the client sits on the server's own machine."""
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False


def is_trusted(address: str, proxies: Sequence[Network]) -> bool:
    """Whether this address belongs to a proxy that is believed."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in proxies)


def peer_of(headers: HeaderList, *, address: str, scheme: str, proxies: Sequence[Network]) -> Peer:
    """Who asks, from the socket's address and the request's headers (names in lower case).

    The client is the rightmost forwarded address that is no trusted proxy: what stands left of it anybody may have written.
    """
    found: dict[bytes, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value.decode("latin-1").strip())
    host = "".join(found.get(b"host", [""])[:1])
    if is_trusted(address, proxies):
        chain = ",".join(found.get(b"x-forwarded-for", [])).split(",")
        for forwarded in reversed([part.strip() for part in chain if part.strip()]):
            address = forwarded
            if not is_trusted(forwarded, proxies):
                break
        scheme = last(found.get(b"x-forwarded-proto")) or scheme
        host = last(found.get(b"x-forwarded-host")) or host
    secure = scheme.lower() in {"https", "wss"}
    return Peer(address, "https" if secure else "http", host.lower())


def last(values: list[str] | None) -> str:
    """The entry that the nearest proxy wrote."""
    return values[-1].rpartition(",")[2].strip() if values else ""


def host_is_served(hostname: str, served: frozenset[str]) -> bool:
    """Whether this server answers for the host; `*` is any, `*.example.org` any below it."""
    if "*" in served or hostname in served:
        return True
    return any(name.startswith("*.") and hostname.endswith(name[1:]) for name in served)


def origin_is_ours(origin: str, peer: Peer, allowed: Sequence[str]) -> bool:
    """Whether a page of this origin may act for its user here.

    The scheme is not compared: a proxy that ends TLS without saying so would lock everybody out.
    """
    plain = origin.lower().rstrip("/")
    if plain in allowed or "*" in allowed:
        return True
    scheme, found, authority = plain.partition("://")
    return (
        bool(found)
        and scheme in {"http", "https"}
        and (without_port(authority) == without_port(peer.host))
    )


def without_port(authority: str) -> str:
    """Host and port, the ports that schemes imply left out."""
    for implied in (":80", ":443"):
        authority = authority.removesuffix(implied)
    return authority
