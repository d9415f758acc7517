"""Which servers the settings name, what an address says, and which addresses say nothing that can be meant."""

import pytest

from tableforge.config import RedisKnobs, split_address
from tableforge.config.redis_address import Address, bus_urls, cache_url
from tableforge.errors import StartRefused


def test_parts_of_an_address_are_read() -> None:
    address = Address("redis://ada:p%40ss@cache:1234/5", patience=2)
    assert address.name == "redis://cache:1234/5"
    assert (address._host, address._port) == ("cache", 1234)
    assert address._greeting == [(b"HELLO", b"3", b"AUTH", b"ada", b"p@ss"), (b"SELECT", b"5")]
    assert Address("redis://cache", patience=2)._greeting == [(b"HELLO", b"3")]
    assert Address("unix:///run/valkey.sock", patience=2)._path == "/run/valkey.sock"


def test_certificates_are_checked_unless_the_address_says_otherwise() -> None:
    strict = Address("rediss://cache", patience=2)._tls
    assert strict is not None
    assert strict.check_hostname
    lax = Address("rediss://cache?ssl_cert_reqs=none", patience=2)._tls
    assert lax is not None
    assert not lax.check_hostname
    assert Address("redis://cache", patience=2)._tls is None


def test_sentinels_are_listed_with_commas_and_have_credentials_of_their_own() -> None:
    address = Address(
        "rediss+sentinel://ada:pass@a:1,b,[::1]:3/main/2?sentinel_password=other&ssl_cert_reqs=none",
        patience=2,
    )
    assert address.name == "rediss+sentinel://a:1,b,[::1]:3/main/2"
    assert address._service == "main"
    assert address._greeting == [(b"HELLO", b"3", b"AUTH", b"ada", b"pass"), (b"SELECT", b"2")]
    assert address._tls is not None
    assert address._sentinel is not None
    asked = [one.connection_pool.connection_kwargs for one in address._sentinel.sentinels]
    assert [(one["host"], one["port"]) for one in asked] == [("a", 1), ("b", 26_379), ("::1", 3)]
    assert {(one["username"], one["password"]) for one in asked} == {(None, "other")}
    assert {one["ssl_cert_reqs"] for one in asked} == {"none"}


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@cache:port/0",
        "redis://:hunter2@cache/0?no_such_option=1",
        "rediss://:hunter2@cache/0?ssl_ca_certs=/no/such/file",
        "redis+sentinel://:hunter2@a:1,b:2",
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(StartRefused, match="REDIS_URL") as refusal:
        Address(url, patience=2)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        (RedisKnobs(host="cache"), ["redis://cache:6379/0"]),
        (
            RedisKnobs(host="::1", port=1, password="p@s:/s", db=3),
            ["redis://:p%40s%3A%2Fs@[::1]:1/3"],
        ),
        (RedisKnobs(host="cache", url="rediss://a:1/2"), ["rediss://a:1/2"]),
        (
            RedisKnobs(
                url="redis://a", bus_urls="redis://b:1, redis+sentinel://c:2,d:3/s,unix:///e"
            ),
            ["redis://b:1", "redis+sentinel://c:2,d:3/s", "unix:///e"],
        ),
    ],
)
def test_the_most_telling_setting_names_the_servers(knobs: RedisKnobs, expected: list[str]) -> None:
    assert bus_urls(knobs) == expected


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        (RedisKnobs(host="cache", bus_urls="redis://b:1"), "redis://cache:6379/0"),
        (RedisKnobs(host="cache", url="unix:///a", bus_urls="redis://b:1"), "unix:///a"),
        (RedisKnobs(bus_urls="redis://b:1"), None),
    ],
)
def test_the_cache_has_the_main_server_whoever_carries_the_bus(
    knobs: RedisKnobs, expected: str | None
) -> None:
    assert cache_url(knobs) == expected


@pytest.mark.parametrize(
    ("url", "netloc", "path"),
    [
        ("redis://a:1/0?b=c", "a:1", "/0"),
        ("redis://ada:p@a,[::1]:3,b/main", "ada:p@a,[::1]:3,b", "/main"),
        ("postgresql://[::1],[fe80::1]:5/name", "[::1],[fe80::1]:5", "/name"),
        ("unix:///run/redis.sock", "", "/run/redis.sock"),
    ],
)
def test_an_address_of_several_hosts_is_taken_apart(url: str, netloc: str, path: str) -> None:
    parts = split_address(url)
    assert (parts.scheme, parts.netloc, parts.path) == (url.partition(":")[0], netloc, path)


def test_half_a_bracket_is_no_address() -> None:
    with pytest.raises(ValueError, match="Invalid IPv6 URL"):
        split_address("redis://a,[::1/0")
