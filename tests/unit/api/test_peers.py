"""Who is believed about who asks."""

import ipaddress

import pytest

from tableforge.api.peers import Peer, host_is_served, origin_is_ours, peer_of

PROXIES = (ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("10.0.0.0/8"))


def seen(address: str, **headers: str) -> Peer:
    """The peer of a plain HTTP request with these headers."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return peer_of(raw, address=address, scheme="http", proxies=PROXIES)


def test_ht6_a_stranger_is_taken_for_what_the_socket_says() -> None:
    peer = seen(
        "203.0.113.9",
        host="Table.Example:8080",
        x_forwarded_for="127.0.0.1",
        x_forwarded_proto="https",
        x_forwarded_host="evil.example",
    )
    assert peer == Peer("203.0.113.9", "http", "table.example:8080")
    assert peer.hostname == "table.example"
    assert not peer.is_loopback


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("127.0.0.1, 198.51.100.7", "198.51.100.7"),
        ("1.2.3.4, 198.51.100.7, 10.1.1.1", "198.51.100.7"),
        ("10.1.1.1, 10.1.1.2", "10.1.1.1"),
        ("not an address, 10.1.1.2", "not an address"),
        (" , ", "127.0.0.1"),
    ],
)
def test_ht6_behind_trusted_proxies_the_client_is_the_nearest_stranger(
    chain: str, address: str
) -> None:
    peer = seen("127.0.0.1", host="inner", x_forwarded_for=chain)
    assert peer == Peer(address, "http", "inner")


def test_ht6_a_trusted_proxy_says_scheme_and_host() -> None:
    peer = seen(
        "10.2.3.4",
        host="inner:8080",
        x_forwarded_for="2001:db8::1",
        x_forwarded_proto="http, HTTPS",
        x_forwarded_host="spoofed, Table.Example",
    )
    assert peer == Peer("2001:db8::1", "https", "table.example")


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("127.9.9.9", True), ("10.0.0.1", False), ("", False)],
)
def test_ht6_loopback_is_the_own_machine(address: str, loopback: bool) -> None:
    assert Peer(address, "http", "x").is_loopback is loopback


@pytest.mark.parametrize(
    ("host", "hostname"),
    [
        ("a.b:80", "a.b"),
        ("[::1]:8080", "::1"),
        ("[::1]", "::1"),
        ("", ""),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_ht2_a_host_is_known_without_its_port(host: str, hostname: str) -> None:
    assert Peer("", "http", host).hostname == hostname


@pytest.mark.parametrize(
    ("hostname", "served"),
    [
        ("localhost", True),
        ("play.example.org", True),
        ("example.org", False),
        ("evilexample.org", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_ht2_only_the_named_hosts_are_served(hostname: str, served: bool) -> None:
    assert host_is_served(hostname, frozenset({"localhost", "*.example.org"})) is served
    assert host_is_served(hostname, frozenset({"*"}))


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        ("http://table.example:8080", True),
        ("https://table.example:8080", True),
        ("https://TABLE.example:8080", True),
        ("http://table.example", False),
        ("http://table.example:9090", False),
        ("http://evil.example", False),
        ("https://friend.example", True),
        ("null", False),
        ("", False),
        ("file://table.example:8080", False),
    ],
)
def test_ht3_a_page_of_the_same_host_or_of_a_named_origin_is_ours(origin: str, ours: bool) -> None:
    peer = Peer("203.0.113.9", "http", "table.example:8080")
    assert origin_is_ours(origin, peer, ("https://friend.example",)) is ours


def test_ht3_the_ports_that_schemes_imply_make_no_difference() -> None:
    peer = Peer("203.0.113.9", "https", "table.example")
    assert origin_is_ours("https://table.example:443", peer, ())
    assert origin_is_ours("https://table.example", Peer("", "https", "table.example:443"), ())
