"""Settings: what may be written, what is refused and in which words, and what wins."""

import contextlib
import ipaddress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tableforge.config import Access, Serving, Settings, declared, load, server_name
from tableforge.config.values import read_size, read_span, show_size, show_span
from tableforge.errors import StartRefused


def row(settings: Settings, name: str) -> tuple[str, str]:
    """Value and source of one line of `tableforge config`."""
    found = next(line for line in settings.effective() if line.name == name)
    return found.value, found.source


def refusal(environ: dict[str, str], dotenv: Path | None = None) -> str:
    """What an operator is told about these settings."""
    with pytest.raises(StartRefused) as refused:
        load(environ, dotenv)
    return str(refused.value)


def test_nothing_set_is_the_contract_s_defaults() -> None:
    settings = load({}, None)
    assert (settings.serving.host, settings.serving.port, settings.serving.base_path) == (
        "127.0.0.1",
        8080,
        "/",
    )
    assert settings.storage.folder == Path.cwd() / "data"
    assert settings.serving.drain_seconds == 25
    assert settings.access.session_lifetime_seconds == 90 * 86_400
    assert settings.access.trusted_proxies == (
        ipaddress.ip_network("127.0.0.1/32"),
        ipaddress.ip_network("::1/128"),
    )
    assert (settings.limits.commands_per_second, settings.limits.commands_burst) == (50, 500)
    assert settings.uploads.max_bytes == 50 * 1024 * 1024
    assert settings.uploads.max_pixels == 16_384 * 16_384
    assert settings.uploads.room_max_bytes == 2 * 1024**3
    assert settings.sockets.max_message_bytes == 65_536
    assert settings.observing.prometheus_enabled
    assert settings.warnings == ()


def test_two_processes_of_one_host_have_different_names() -> None:
    assert load({}, None).serving.instance_id != load({}, None).serving.instance_id


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("# ours\nexport PORT=9000\nHOST='0.0.0.0'\nLIMIT_LIVE=\n")
    settings = load({"PORT": "9001"}, dotenv)
    assert row(settings, "PORT") == ("9001", "environment")
    assert row(settings, "HOST") == ("0.0.0.0", str(dotenv))  # noqa: S104  # the value under test
    assert row(settings, "LIMIT_LIVE") == ("60", "default")


def test_a_file_that_is_not_there_is_no_mistake(tmp_path: Path) -> None:
    assert load({}, tmp_path / ".env").serving.port == 8080


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"PORT 8080\n", "line 1"), (b"HOST=a\nwhat is this\n", "line 2"), (b"HOST=\xff\n", "UTF-8")],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, content: bytes, word: str) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_bytes(content)
    assert word in refusal({}, dotenv)


@pytest.mark.parametrize(
    ("name", "text", "section", "field", "value"),
    [
        ("UPLOAD_MAX_BYTES", "10 MiB", "uploads", "max_bytes", 10 * 1024 * 1024),
        ("UPLOAD_MAX_BYTES", "10MB", "uploads", "max_bytes", 10_000_000),
        ("UPLOAD_MAX_BYTES", "64k", "uploads", "max_bytes", 65_536),
        ("UPLOAD_MAX_PIXELS", "4096 x 2048", "uploads", "max_pixels", 4096 * 2048),
        ("UPLOAD_MAX_PIXELS", "16384 \u00d7 16384", "uploads", "max_pixels", 16_384**2),
        ("UPLOAD_MAX_PIXELS", "1000000", "uploads", "max_pixels", 1_000_000),
        ("SESSION_LIFETIME", "1h 30m", "access", "session_lifetime_seconds", 5_400),
        ("SESSION_LIFETIME", "600", "access", "session_lifetime_seconds", 600),
        ("DRAIN_SECONDS", "500 ms", "serving", "drain_seconds", 0.5),
        ("LOG_COMMIT_INTERVAL_MS", "0.5", "eventlog", "commit_interval_ms", 0.5),
        ("BASE_PATH", "/games/table", "serving", "base_path", "/games/table/"),
        ("PORT", "0", "serving", "port", 0),
        ("PROMETHEUS_ENABLED", "No", "observing", "prometheus_enabled", False),
        ("ROOM_CREATION", "ADMIN", "access", "room_creation", "admin"),
        ("TRUSTED_PROXIES", "none", "access", "trusted_proxies", ()),
        (
            "TRUSTED_PROXIES",
            "10.1.2.3/8",
            "access",
            "trusted_proxies",
            (ipaddress.ip_network("10.0.0.0/8"),),
        ),
        (
            "ALLOWED_ORIGINS",
            "https://Play.example.org:443/, http://[::1]:81",
            "access",
            "allowed_origins",
            ("https://play.example.org", "http://[::1]:81"),
        ),
    ],
)
def test_values_as_people_write_them(
    name: str, text: str, section: str, field: str, value: object
) -> None:
    settings = load({name: text}, None)
    assert getattr(getattr(settings, section), field) == value
    assert row(settings, name)[1] == "environment"


@pytest.mark.parametrize(
    ("name", "text", "accepted"),
    [
        ("PORT", "65536", "from 0 to 65535"),
        ("PORT", "eighty", "from 0 to 65535"),
        ("PORT", "-1", "from 0 to 65535"),
        ("HOST", "http://127.0.0.1", "an address of this machine"),
        ("BASE_PATH", "table", "/table/"),
        ("BASE_PATH", "/a/../b", "/table/"),
        ("DRAIN_SECONDS", "soon", "from 0 seconds"),
        ("DRAIN_SECONDS", "2 hours", "to 60 minutes"),
        ("DRAIN_SECONDS", "5 5", "from 0 seconds"),
        ("LOG_COMMIT_INTERVAL_MS", "nan", "from 0 to 1000"),
        ("LOG_COMMIT_INTERVAL_MS", "inf", "from 0 to 1000"),
        ("UPLOAD_MAX_BYTES", "50 parsecs", "to 2 GiB"),
        ("UPLOAD_MAX_BYTES", "0", "from 1 byte"),
        ("UPLOAD_MAX_PIXELS", "0x10", "from 1 to"),
        ("LIMIT_COMMANDS", "1.5", "0 = no limit"),
        ("PROMETHEUS_ENABLED", "maybe", "true or false"),
        ("ROOM_CREATION", "nobody", "anyone or admin"),
        ("LOG_LEVEL", "loud", "info, debug, warning or error"),
        ("ALLOWED_ORIGINS", "play.example.org", "https://play.example.org"),
        ("ALLOWED_ORIGINS", "https://a/b", "https://play.example.org"),
        ("ALLOWED_ORIGINS", "https://a:99999", "https://play.example.org"),
        ("ALLOWED_HOSTS", "a/b", "host names without ports"),
        ("TRUSTED_PROXIES", "proxy", "addresses and networks"),
        ("INSTANCE_ID", "two words", "1 to 80"),
    ],
)
def test_a_bad_value_is_refused_with_value_range_and_default(
    name: str, text: str, accepted: str
) -> None:
    told = refusal({name: text})
    assert f"{name} (environment): '{text}' is not" in told
    assert accepted in told
    assert "leave it out for the default" in told


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("PORT=http\nnonsense line\n")
    told = refusal({"LIMIT_LIVE": "many", "DATABASE_PORT": "0"}, dotenv)
    assert "4 settings cannot be used" in told
    for part in ("PORT", "LIMIT_LIVE", "DATABASE_PORT", "line 2"):
        assert part in told


POSTGRES = "postgresql://forge@db.lan/tables"


@pytest.mark.parametrize("place", [{"DATABASE_HOST": "db.lan"}, {"DATABASE_URL": POSTGRES}])
def test_a_database_chooses_the_fleet_which_must_share_a_token(place: dict[str, str]) -> None:
    assert "ADMIN_TOKEN is not set" in refusal(place)
    assert load({**place, "ADMIN_TOKEN": "one-for-all-of-them"}, None).database.chosen
    assert not load({"DATABASE_HOST": "", "DATABASE_URL": ""}, None).database.chosen


def test_bounds_of_the_pool_that_contradict_each_other_are_refused() -> None:
    told = refusal(
        {"DATABASE_URL": POSTGRES, "ADMIN_TOKEN": "x" * 20, "DB_POOL_MIN": "9", "DB_POOL_MAX": "3"}
    )
    assert "DB_POOL_MIN (9) is over DB_POOL_MAX (3)" in told


@pytest.mark.parametrize(
    ("name", "text"),
    [("REDIS_HOST", "cache"), ("REDIS_URL", "redis://c:1"), ("REDIS_BUS_URLS", "redis://c:1")],
)
def test_redis_without_a_fleet_is_warned_of(name: str, text: str) -> None:
    settings = load({name: text}, None)
    assert settings.redis.chosen
    assert any("needs no bus" in warning for warning in settings.warnings)


def test_addresses_with_passwords_are_masked() -> None:
    settings = load(
        {"DATABASE_URL": "postgresql://forge:hunter2@db.lan/tables", "ADMIN_TOKEN": "x" * 20}, None
    )
    assert "hunter2" not in str(settings.effective())


@pytest.mark.parametrize("sign", ["/", "?", "#"])
@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "REDIS_BUS_URLS"])
def test_a_password_that_ends_before_its_time_is_refused_and_not_shown(
    name: str, sign: str
) -> None:
    scheme = "postgresql" if name == "DATABASE_URL" else "redis"
    address = f"{scheme}://forge:hunter{sign}2@lan.db:5432/tables"
    told = refusal({"DATABASE_URL": POSTGRES, "ADMIN_TOKEN": "x" * 20, name: address})
    assert name in told
    assert "hunter" not in told
    assert "hunter" not in server_name(address)
    escaped = address.replace(f"{sign}2@", f"{quote(sign, safe='')}2@")
    settings = load({"DATABASE_URL": POSTGRES, "ADMIN_TOKEN": "x" * 20, name: escaped}, None)
    assert settings.database.chosen


def test_a_password_with_spaces_is_told_how_to_be_written() -> None:
    address = "postgresql://forge:a hunter2@db.lan/tables"
    told = refusal({"DATABASE_URL": address, "ADMIN_TOKEN": "x" * 20})
    assert "%20" in told
    assert "DATABASE_PASSWORD" in told
    assert "hunter" not in told


@pytest.mark.parametrize("rest", ["h:port/d", "[::1/d", "h:1,h:two/d"])
def test_an_address_whose_host_cannot_be_meant_is_refused(rest: str) -> None:
    assert "DATABASE_URL" in refusal(
        {"DATABASE_URL": f"postgresql://{rest}", "ADMIN_TOKEN": "x" * 20}
    )


@pytest.mark.parametrize(
    "rest", ["h1:1,h2:2/d?target_session_attrs=any", "u:p%40%23@[::1]:5/d", "u@/d?host=/var/run"]
)
def test_addresses_of_several_servers_sockets_and_escapes_are_taken(rest: str) -> None:
    place = {"DATABASE_URL": f"postgresql://{rest}", "ADMIN_TOKEN": "x" * 20}
    assert load(place, None).database.chosen


def test_a_secret_is_read_from_a_file_and_never_shown(tmp_path: Path) -> None:
    kept = tmp_path / "admin"
    kept.write_text("a-long-enough-secret-word\n")
    settings = load({"ADMIN_TOKEN_FILE": str(kept)}, None)
    assert settings.access.admin_token == "a-long-enough-secret-word"
    assert row(settings, "ADMIN_TOKEN") == ("********", f"file {kept}")
    assert "secret-word" not in repr(settings)
    assert settings.warnings == ()


def test_a_password_keeps_its_spaces() -> None:
    assert load({"ACCESS_PASSWORD": " two words "}, None).access.access_password == " two words "


def test_a_bad_secret_is_not_repeated() -> None:
    told = refusal({"ADMIN_TOKEN": "has a blank"})
    assert "ADMIN_TOKEN (environment): its value is not" in told
    assert "blank" not in told


def test_a_secret_file_must_be_readable_and_alone(tmp_path: Path) -> None:
    assert "No such file" in refusal({"METRICS_TOKEN_FILE": str(tmp_path / "none")})
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refusal({"METRICS_TOKEN_FILE": str(binary)})
    assert "both set" in refusal({"METRICS_TOKEN_FILE": str(binary), "METRICS_TOKEN": "x"})


def test_slips_of_the_pen_are_warned_of() -> None:
    settings = load({"LIMIT_COMMAND": "5", "TABLEFORGE_DIR": "/x", "PORTT": "1"}, None)
    assert len(settings.warnings) == 2
    assert "LIMIT_COMMAND (environment)" in settings.warnings[0]
    assert "Did you mean LIMIT_COMMANDS?" in settings.warnings[0]
    assert "TABLEFORGE_DIR" in settings.warnings[1]


def test_a_short_admin_token_is_warned_of() -> None:
    assert "ADMIN_TOKEN is short" in load({"ADMIN_TOKEN": "short"}, None).warnings[0]


def test_hosts_served_follow_host_and_origins_unless_they_are_listed() -> None:
    own = Settings(
        serving=Serving(host="table.lan"),
        access=Access(allowed_origins=("https://play.example.org:444",)),
    )
    assert own.served_hosts == {"localhost", "127.0.0.1", "::1", "table.lan", "play.example.org"}
    listed = load({"ALLOWED_HOSTS": "Only.example.org"}, None)
    assert listed.served_hosts == {"only.example.org"}


def test_every_default_can_be_written_down_and_read_back() -> None:
    for _, _, setting, default in declared():
        if default is not None:
            assert setting.parse(setting.show(default) or "none") == default, setting.name


def test_every_setting_has_its_own_name_and_words() -> None:
    names = [setting.name for _, _, setting, _ in declared()]
    assert len(names) == len(set(names))
    for _, _, setting, _ in declared():
        assert setting.purpose.endswith("."), setting.name
        assert setting.accepts, setting.name


@given(st.integers(min_value=1, max_value=2**50))
def test_sizes_survive_being_shown(size: int) -> None:
    assert read_size(show_size(size)) == size


@given(st.integers(min_value=0, max_value=10**6))
def test_spans_survive_being_shown(seconds: int) -> None:
    assert read_span(show_span(seconds)) == pytest.approx(seconds, rel=1e-5)


@given(st.text(max_size=12))
def test_a_text_is_a_span_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert read_span(text) >= 0
