"""`doctor` of a fleet: it looks at the real database and bus, and names what is wrong with them."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tableforge.config import load
from tableforge.ops.findings import Finding
from tableforge.ops.fleet_doctor import _output_limit, _version_of, examine_fleet
from tableforge.ops.servers import PostgresServer
from tests.command import tableforge
from tests.server_process import free_port
from tests.services import run_sql

TOKEN = "0123456789abcdef0123456789abcdef"


def findings(database_url: str, **settings: str) -> list[Finding]:
    """Everything that is said of database and bus."""
    environment = {"DATABASE_URL": database_url, "ADMIN_TOKEN": TOKEN, **settings}
    return asyncio.run(examine_fleet(load(environment, None)))


def told(found: list[Finding], name: str, level: str) -> str:
    """What is said under a name at a level."""
    return " ".join(one.text for one in found if (one.name, one.level) == (name, level))


def test_a_sound_fleet_has_nothing_bad(database_url: str, redis_url: str, tmp_path: Path) -> None:
    tables = tableforge("migrate", "--schema-only", "--to", database_url, folder=tmp_path)
    assert tables.returncode == 0, tables.stderr
    found = findings(database_url, REDIS_URL=redis_url)
    # The tests' shared server waits for no disk, and doctor is right to say so.
    bad = [one for one in found if one.level == "bad"]
    assert all("fsync" in one.text for one in bad), bad
    assert told(found, "database", "ok").startswith("PostgreSQL ")
    assert told(found, "form", "ok").endswith("as this program writes it.")
    assert told(found, "rights", "ok") == "This user may do with every table what serving needs."
    assert told(found, "clock", "ok")
    assert told(found, "instances", "ok") == "Live now: none."
    assert "came back in" in told(found, "bus", "ok")
    assert "Valkey" in told(found, "bus", "ok") or "Redis" in told(found, "bus", "ok")


def test_the_command_prints_them_among_the_others(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    done = tableforge(
        *("doctor", "--json"),
        folder=tmp_path,
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        ADMIN_TOKEN=TOKEN,
        PORT=str(free_port()),
    )
    names = {one["name"] for one in json.loads(done.stdout)["findings"]}
    assert {"python", "data folder", "durability", "form", "connections", "bus"} <= names
    assert "server" not in names
    assert not (tmp_path / "data").exists()


def test_a_database_that_is_away_or_refuses_is_named_without_its_password(
    database_url: str,
) -> None:
    away = findings(f"postgresql://me:hidden-word@127.0.0.1:{free_port()}/x")
    assert "was not reached" in told(away, "database", "bad")
    assert "hidden-word" not in str(away)
    nowhere = findings(f"{database_url}_not_there")
    assert "There is no such database" in told(nowhere, "database", "bad")
    unnamed = findings("postgresql://me:hidden-word@there-is-no-such-host.invalid/x")
    assert "does not answer: [Errno -" in told(unnamed, "database", "bad")
    assert "[Errno 111] Connection refused" in told(away, "database", "bad")
    assert all(
        one.mend.startswith("Look whether PostgreSQL runs")
        for one in away
        if one.name == "database"
    )


def test_a_refused_password_is_told_as_a_server_tells_it(
    new_postgres: Callable[..., PostgresServer],
) -> None:
    refused = findings(
        new_postgres(durable=False, password="right").url.replace("right", "hidden-word")
    )
    assert "(28P01)" in told(refused, "database", "bad")
    assert any("pg_hba.conf" in one.mend for one in refused)
    assert "hidden-word" not in str(refused)


def test_a_user_without_rights_is_told_which_are_lacking(database_url: str, tmp_path: Path) -> None:
    tables = tableforge("migrate", "--schema-only", "--to", database_url, folder=tmp_path)
    assert tables.returncode == 0, tables.stderr
    role = f"few_{database_url.rpartition('_')[2]}"
    run_sql(database_url, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        _, _, place = database_url.rpartition("@")
        found = findings(f"postgresql://{role}:x@{place}")
        assert "SELECT on schema_form" in told(found, "rights", "bad")
        assert "INSERT on events" in told(found, "rights", "bad")
        assert told(found, "clock", "ok")
        assert told(found, "connections", "ok")
        run_sql(database_url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        found = findings(f"postgresql://{role}:x@{place}")
        assert "INSERT on events" in told(found, "rights", "bad")
        assert "SELECT on events" not in told(found, "rights", "bad")
    finally:
        run_sql(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_tables_of_another_form_and_too_many_connections(database_url: str) -> None:
    found = findings(database_url, DB_POOL_MAX="900")
    assert "the next start brings it to" in told(found, "form", "ok")
    assert "DB_POOL_MAX=900" in told(found, "connections", "bad")
    run_sql(database_url, "CREATE TABLE schema_form (number integer)")
    run_sql(database_url, "INSERT INTO schema_form VALUES (999)")
    assert "form 999" in told(findings(database_url), "form", "bad")


def test_a_bus_that_is_not_there_or_away_or_named_wrongly(database_url: str) -> None:
    assert "There is none" in told(findings(database_url), "bus", "warn")
    away = findings(database_url, REDIS_URL=f"redis://:hidden-word@127.0.0.1:{free_port()}")
    assert "was not reached" in told(away, "bus", "bad")
    assert "hidden-word" not in str(away)
    assert told(findings(database_url, REDIS_URL="redis://127.0.0.1:1/x?no=1"), "bus", "bad")


@pytest.mark.parametrize(
    ("about", "level"),
    [
        ({"redis_version": "6.2.14"}, "bad"),
        ({"redis_version": "7.0.0"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.4"}, "bad"),
    ],
)
def test_old_servers_are_refused(about: dict[str, str], level: str) -> None:
    assert _version_of(about).level == level


def test_a_small_output_buffer_is_told() -> None:
    usual = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
    assert _output_limit(usual).text.endswith("32 MiB.")
    assert _output_limit("pubsub 1048576 0 0").level == "warn"
    assert _output_limit("pubsub 0 0 0").text.endswith("no limit.")
