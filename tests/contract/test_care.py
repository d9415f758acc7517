"""The care of the database on each engine (rules MC1 to MC6, MC10 to MC13, MC16 of `docs/spec.md`), on real servers."""

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from tableforge.config import DatabaseKnobs
from tableforge.database import Database, Statement
from tableforge.database.care import Care, Finding, Outcome, Watched, Wish, cleaning, schema
from tableforge.database.care import postgres as postgres_care
from tableforge.database.care.ledger import Ledger
from tableforge.database.care.postgres import PostgresCare
from tableforge.database.care.sqlite import SqliteCare
from tableforge.database.pool import Connection
from tableforge.database.postgres import PostgresDatabase, text_of
from tableforge.database.sqlite import SqliteDatabase
from tableforge.ops.servers import PostgresServer
from tests.services import POSTGRES_VERSIONS, run_sql

ROWS = 10_000
NUMBERS = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"  # noqa: S608 - a constant
COUNTED = "SELECT pg_stat_force_next_flush()"
"""Has the server count what the session did so far, which it would do some time after its end."""


def counting(what: str) -> str:
    """A statement over the numbers from 1 to ROWS."""
    return f"{NUMBERS} {what}"


PLANTED = (
    "CREATE TABLE people (id text NOT NULL PRIMARY KEY, town text NOT NULL, age bigint NOT NULL, pad text NOT NULL)",
    "CREATE TABLE towns (id text NOT NULL PRIMARY KEY, name text NOT NULL)",
    counting(
        "INSERT INTO people SELECT 'p' || i, 't' || (i % 2000), i % 100, 'some words that fill a row' FROM n"
    ),
    counting("INSERT INTO towns SELECT 't' || i, 'name of ' || i FROM n WHERE i <= 2000"),
)
OF_TOWN = Statement("people.of_town", "SELECT id FROM people WHERE town = ?")
WITH_TOWN = Statement(
    "people.with_town",
    "SELECT p.id, t.name FROM towns t JOIN people p ON p.town = t.id WHERE t.id = ?",
)


class Planted:
    """A database with people in towns, no index on their towns, and the care of it; `watched` is what it knows to have run."""

    def __init__(self, database: SqliteDatabase | PostgresDatabase, dsn: str) -> None:
        self.database: Database = database
        self.dsn = dsn
        self.ledger = Ledger(database)
        self.watched: list[Watched] = []
        self.is_postgres = isinstance(database, PostgresDatabase)
        self.care: Care
        if isinstance(database, PostgresDatabase):
            self.care = self.care_by(database.dial)
        else:
            self.care = SqliteCare(database, self.ledger, lambda: self.watched, dead_share=0.1)

    def care_by(self, dial: Callable[[], Awaitable[Connection]]) -> PostgresCare:
        """The care of it by whoever dials, to which the planted tables are the program's own."""
        return PostgresCare(
            dial,
            self.ledger,
            lambda: self.watched,
            dead_share=0.1,
            pool_max=20,
            tables=schema.own_tables("postgres") | {"people", "towns", "grown"},
        )

    def run(self, *texts: str) -> None:
        """Change the database as an operator would, from outside."""
        if self.is_postgres:
            run_sql(self.dsn, *texts, COUNTED)
            return
        with closing(sqlite3.connect(self.dsn, isolation_level=None)) as connection:
            for text in texts:
                connection.execute(text)

    def watch(self, statement: Statement) -> None:
        """This statement has run, and cost much."""
        text = text_of(statement) if self.is_postgres else statement.sql
        self.watched.append(Watched(statement.name, text, 1_000, 25.0, "test"))

    async def indexes(self) -> set[str]:
        """The names of all indexes."""
        text = "SELECT name FROM sqlite_schema WHERE type = 'index'"
        found = await self.database.read(
            Statement("test.indexes", text, "SELECT indexname::text FROM pg_indexes")
        )
        return {row[0] for row in found}

    async def findings(self, card: str) -> list[Finding]:
        """What one card of the advice says."""
        (found,) = [one for one in await self.care.advice() if one.name == card]
        assert found.state != "unknown", found.says
        return list(found.findings)

    async def optimize(self, wish: Wish | None = None) -> dict[str, Outcome]:
        """What was done, by what it was done to."""
        async with self.care.alone() as alone:
            assert alone
            outcomes = await self.care.optimize(lambda _: None, wish=wish)
        return {outcome.action: outcome for outcome in outcomes}

    async def maintain(self) -> dict[str, Outcome]:
        """What was done at night."""
        async with self.care.alone() as alone:
            assert alone
            outcomes = await self.care.maintain(lambda _: None, within_seconds=60)
        return {outcome.action: outcome for outcome in outcomes}

    def create(self, table: str, *columns: str) -> str:
        """The statement that makes an index of ours."""
        how = "CONCURRENTLY " if self.is_postgres else ""
        listed = ", ".join(f'"{one}"' for one in columns)
        return f'CREATE INDEX {how}"care_{table}_{"_".join(columns)}" ON "{table}" ({listed})'


Opened = tuple[SqliteDatabase | PostgresDatabase, str]


@pytest.fixture(scope="session")
def planted_in(
    postgres_of: Callable[[int | None], PostgresServer],
) -> Callable[[int], tuple[PostgresServer, str]]:
    """The server of a version, and the name of a planted database in it, which others are copied from."""
    made: dict[int, str] = {}

    def template(version: int) -> tuple[PostgresServer, str]:
        server = postgres_of(version)
        if version not in made:
            name = f"care_template_{secrets.token_hex(4)}"
            run_sql(server.url, f"CREATE DATABASE {name}")
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(asyncio.run, plant(server.url_of(name))).result()
            made[version] = name
        return server, made[version]

    return template


async def plant(dsn: str) -> None:
    """Bring a database to the present form, and people into it."""
    async with PostgresDatabase(DatabaseKnobs(url=dsn, pool_min=0), "one") as database:
        await database.started()
    off = "ALTER TABLE people SET (autovacuum_enabled = off)"
    await asyncio.to_thread(run_sql, dsn, *PLANTED[:2], off, *PLANTED[2:])


@pytest.fixture
def empty(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    planted_in: Callable[[int], tuple[PostgresServer, str]],
) -> Iterator[Opened]:
    if request.param == "sqlite":
        database = SqliteDatabase(tmp_path)
        yield database, str(database.path)
        return
    server, template = planted_in(int(request.param.removeprefix("postgres ")))
    name = f"care_{secrets.token_hex(4)}"
    run_sql(server.url, f"CREATE DATABASE {name} TEMPLATE {template}")
    dsn = server.url_of(name)
    yield PostgresDatabase(DatabaseKnobs(url=dsn, pool_min=0), "one"), dsn
    run_sql(server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def planted(empty: Opened) -> AsyncIterator[Planted]:
    database, dsn = empty
    async with database:
        made = Planted(database, dsn)
        if isinstance(database, PostgresDatabase):
            await database.started()
        else:
            made.run(*PLANTED)
        made.run("ANALYZE")
        yield made


NEWEST = f"postgres {POSTGRES_VERSIONS[0]}"
EVERY = pytest.mark.parametrize(
    "empty", ["sqlite", *(f"postgres {one}" for one in POSTGRES_VERSIONS)], indirect=True
)
BOTH = pytest.mark.parametrize("empty", ["sqlite", NEWEST], indirect=True)
POSTGRES = pytest.mark.parametrize("empty", [NEWEST], indirect=True)
SQLITE = pytest.mark.parametrize("empty", ["sqlite"], indirect=True)


@EVERY
async def test_mc1_mc2_a_missing_index_is_found_explained_made_and_shown_to_help(
    planted: Planted,
) -> None:
    planted.watch(OF_TOWN)
    action = planted.create("people", "town")
    (finding,) = await planted.findings("missing indexes")
    assert finding.mend == action
    assert finding.what == "people.of_town reads through people."
    assert "without the index" in finding.evidence
    assert finding.cost
    assert finding.safe
    assert "care_people_town" not in await planted.indexes()
    outcome = (await planted.optimize())[action]
    assert outcome.verdict == "done", outcome
    assert outcome.before.startswith("median ")
    assert outcome.after.startswith("median ")
    assert outcome.reason.startswith("people.of_town is better for it: median ")
    assert "care_people_town" in await planted.indexes()
    (entry,) = await planted.ledger.latest(10)
    assert (entry.index, entry.statement, entry.verdict) == (
        "care_people_town",
        "people.of_town",
        "done",
    )
    assert entry.before_ms > 0
    assert entry.after_ms > 0
    assert await planted.findings("missing indexes") == []
    assert (await planted.optimize())["look for missing indexes"].verdict == "skipped"


@BOTH
async def test_mc1_a_join_lacks_an_index_as_well(planted: Planted) -> None:
    planted.watch(WITH_TOWN)
    (finding,) = await planted.findings("missing indexes")
    assert finding.mend == planted.create("people", "town")


@BOTH
async def test_mc1_no_index_is_proposed_where_none_would_help(planted: Planted) -> None:
    planted.watch(Statement("people.all", "SELECT count(*), max(pad) FROM people"))
    planted.watch(Statement("people.one", "SELECT town FROM people WHERE id = ?"))
    planted.watch(Statement("people.torn", "SELECT nothing FROM nowhere WHERE x = ?"))
    assert await planted.findings("missing indexes") == []


@BOTH
async def test_mc3_an_index_that_does_not_help_is_taken_back(planted: Planted) -> None:
    planted.watch(OF_TOWN)
    wish = Wish("people", ("age",))
    outcome = (await planted.optimize(wish))[planted.create("people", "age")]
    assert outcome.verdict == "reverted", outcome
    assert "gained too little: median " in outcome.reason
    assert "care_people_age" not in await planted.indexes()
    (entry,) = await planted.ledger.latest(10)
    assert (entry.index, entry.verdict) == ("care_people_age", "reverted")
    helping = (await planted.optimize(Wish("people", ("town",))))[planted.create("people", "town")]
    assert helping.verdict == "done", helping
    assert "care_people_town" in await planted.indexes()
    again = (await planted.optimize(Wish("people", ("town",))))[planted.create("people", "town")]
    assert (again.verdict, again.reason) == ("skipped", "It is there already.")


@BOTH
async def test_mc3_what_cannot_be_tried_is_refused_with_the_reason(planted: Planted) -> None:
    for wish, why in (
        (Wish("people", ("height",)), "There is no table people with the columns height."),
        (Wish("giants", ("town",)), "There is no table giants with the columns town."),
        (Wish("people", ("town",)), "No statement that has run reads people and can be measured."),
    ):
        (outcome,) = (await planted.optimize(wish)).values()
        assert outcome.reason == why
        assert outcome.verdict in ("failed", "skipped")
    assert await planted.ledger.latest(10) == []


@POSTGRES
async def test_mc3_what_only_the_planner_believed_in_is_taken_back_and_not_tried_again(
    planted: Planted,
) -> None:
    """Most people live in one town, so the plan for a town of average size promises what most runs do not get."""
    planted.run("UPDATE people SET town = 'capital' WHERE age > 0", "VACUUM ANALYZE people")
    planted.watch(Statement("people.words", "SELECT count(pad) FROM people WHERE town = ?"))
    action = planted.create("people", "town")
    assert (await planted.optimize())[action].verdict == "reverted"
    assert "care_people_town" not in await planted.indexes()
    again = (await planted.optimize())[action]
    assert again.verdict == "skipped"
    assert "tried lately" in again.reason


@BOTH
async def test_mc4_a_useless_index_is_told_of_and_a_repeated_one_is_dropped(
    planted: Planted,
) -> None:
    planted.run(
        "CREATE INDEX useless ON people (pad)",
        "CREATE UNIQUE INDEX by_name ON towns (name)",
        "CREATE UNIQUE INDEX by_name_too ON towns (name)",
        "CREATE INDEX beginning ON towns (name)",
        "CREATE INDEX again ON assets (digest)",
    )
    (found,) = [one for one in await planted.findings("unused indexes") if one.index == "useless"]
    assert not found.safe
    assert found.mend.startswith("DROP INDEX")
    needless = {one.index: one.safe for one in await planted.findings("needless indexes")}
    assert needless == {"beginning": True, "again": True}
    outcomes = await planted.optimize()
    verdicts = {
        outcome.action.split()[-1].strip('"'): outcome.verdict for outcome in outcomes.values()
    }
    assert verdicts["useless"] == "skipped"
    assert (verdicts["beginning"], verdicts["again"]) == ("done", "done")
    indexes = await planted.indexes()
    assert indexes >= {"useless", "by_name", "by_name_too", "assets_digest"}
    assert indexes.isdisjoint({"beginning", "again"})


@POSTGRES
async def test_mc5_a_card_that_takes_too_long_says_so_and_leaves_the_others_alone(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_care, "CARD_SECONDS", 0.3)
    holder = await asyncpg.connect(planted.dsn)
    try:
        await holder.execute("BEGIN; LOCK TABLE instances IN ACCESS EXCLUSIVE MODE")
        cards = {one.name: one for one in await planted.care.advice()}
    finally:
        await holder.close()
    assert cards["settings"].state == "unknown"
    assert cards["settings"].says == "It took too long."
    for other in ("slow statements", "missing indexes", "headroom", "lock waits", "dead rows"):
        assert cards[other].state == "good", cards[other]


@POSTGRES
async def test_mc5_whoever_lacks_a_right_is_told_which(planted: Planted) -> None:
    role = f"reader_{secrets.token_hex(4)}"
    planted.run(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}",
        "DELETE FROM people WHERE age < 40",
    )

    async def dial() -> Connection:
        return await asyncpg.connect(planted.dsn, user=role)

    planted.watch(OF_TOWN)
    planted.care = planted.care_by(dial)
    try:
        outcomes = await planted.optimize()
        for action in (planted.create("people", "town"), 'VACUUM (ANALYZE) "people"'):
            assert outcomes[action].verdict == "failed"
            assert "Only the owner of people may do this." in outcomes[action].reason
            assert f'GRANT "tableforge" TO "{role}"' in outcomes[action].reason
        assert (
            f'GRANT MAINTAIN ON "people" TO {role}' in outcomes['VACUUM (ANALYZE) "people"'].reason
        )
        forgotten = await planted.care.forget_keys(lambda _: None, before="2020", within_seconds=5)
        assert (forgotten.verdict, forgotten.reason) == ("done", "")
        planted.run(
            f"REVOKE TEMPORARY ON DATABASE {planted.dsn.rpartition('/')[2]} FROM PUBLIC, {role}"
        )
        (card,) = [one for one in await planted.care.advice() if one.name == "missing indexes"]
        assert "GRANT TEMPORARY ON DATABASE" in card.says
    finally:
        planted.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@BOTH
async def test_mc6_maintenance_finds_what_is_dead_and_cleans_it(planted: Planted) -> None:
    if planted.is_postgres:
        planted.run("DELETE FROM people WHERE age < 40")
        (finding,) = await planted.findings("dead rows")
        assert finding.what == "40% of the rows of people are dead."
        outcome = (await planted.maintain())['VACUUM (ANALYZE) "people"']
        assert outcome.before == "4000 dead of 10000 rows"
        assert outcome.verdict == "done"
        async with asyncio.timeout(60):
            while "some cannot go yet" in outcome.reason.lower():  # the server itself was reading
                outcome = (await planted.maintain())['VACUUM (ANALYZE) "people"']
        assert outcome.after == "0 dead of 6000 rows"
        assert await planted.findings("dead rows") == []
        return
    junk = (
        "CREATE TABLE junk (x blob)",
        counting("INSERT INTO junk SELECT randomblob(400) FROM n"),
        "DROP TABLE junk",
    )
    for before in ((), ("PRAGMA auto_vacuum = NONE", "VACUUM")):
        planted.run(*before, *junk)
        (finding,) = await planted.findings("free pages")
        assert finding.safe
        outcome = (await planted.maintain())[finding.mend]
        assert outcome.verdict == "done"
        assert outcome.after.startswith("0 of ")
        assert await planted.findings("free pages") == []


@BOTH
async def test_mc6_maintenance_renews_statistics_and_looks_at_a_sample(planted: Planted) -> None:
    planted.run(
        "CREATE TABLE grown (id bigint PRIMARY KEY, x text)",
        "CREATE INDEX grown_x ON grown (x)",
        counting("INSERT INTO grown SELECT i, 'x' || i FROM n"),
    )
    outcomes = await planted.maintain()
    assert outcomes['ANALYZE "grown"'].verdict == "done"
    assert outcomes["check a sample of the logs"].verdict == "done"
    await write_events(planted, "whole", range(1, 6))
    await write_events(planted, "torn", (1, 2, 4))
    sample = (await planted.maintain())["check a sample of the logs"]
    assert sample.verdict == "failed"
    assert "torn" in sample.reason
    assert "whole" not in sample.reason


OLD, RECENT = "2020-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"
WRITE = Statement(
    "test.event",
    "INSERT INTO events (room, seq, version, data, key, digest)"
    " SELECT num, ?2, 1, ?3, ?4, ?4 FROM rooms WHERE id = ?1",
    "INSERT INTO events (room, seq, version, data, key, digest) VALUES (?1, ?2, 1, ?3, ?4, ?4)",
)
OPEN = Statement(
    "test.open",
    "INSERT INTO rooms (id, epoch, name, visibility, tags) VALUES (?1, 'e' || ?2, 'a room', 'private', '[]')",
    "INSERT INTO room_heads (room, head, epoch) VALUES (?1, ?2, 'e')",
)


async def write_events(planted: Planted, room: str, offsets: Sequence[int]) -> None:
    """A log as the engine keeps it, the first two events old."""
    await planted.database.write(OPEN, room, max(offsets))
    for offset in offsets:
        data = f'{{"at":"{OLD if offset <= 2 else RECENT}"}}'.encode()
        key = f"{room}-{offset}".encode().ljust(16, b"-")
        await planted.database.write(WRITE, room, offset, data, key)


@BOTH
async def test_mc11_ids_of_old_commands_are_forgotten_and_their_events_stay(
    planted: Planted,
) -> None:
    await write_events(planted, "one", range(1, 6))
    await write_events(planted, "two", range(1, 4))
    question = Statement(
        "test.events", "SELECT seq, data, key, digest FROM events ORDER BY 1, 2, 3"
    )
    before = await planted.database.read(question)
    outcome = await planted.care.forget_keys(
        lambda _: None, before="2021-01-01T00:00:00", within_seconds=30
    )
    assert (outcome.verdict, outcome.after) == ("done", "4 forgotten")
    after = await planted.database.read(question)
    assert sorted(row[:2] for row in after) == sorted(row[:2] for row in before)
    assert all((row[2] is None) is (row[0] <= 2) for row in after)
    assert all((row[3] is None) is (row[0] <= 2) for row in after)
    again = await planted.care.forget_keys(
        lambda _: None, before="2021-01-01T00:00:00", within_seconds=30
    )
    assert again.after == "0 forgotten"


@BOTH
async def test_mc10_what_a_dead_process_left_half_done_is_taken_back(planted: Planted) -> None:
    action = planted.create("people", "age")
    planted.run(action)
    await planted.ledger.begin(
        action, index="care_people_age", table="people", statement="some", before_ms=1.0
    )
    assert (await planted.optimize())[action].verdict == "reverted"
    assert "care_people_age" not in await planted.indexes()
    (entry,) = await planted.ledger.latest(10)
    assert entry.verdict == "reverted"
    assert await planted.ledger.begun() == []


@BOTH
async def test_mc10_what_became_of_a_drop_is_found_by_looking(planted: Planted) -> None:
    if planted.is_postgres:  # where a drop that breaks off leaves an index that is not valid
        with pytest.raises(asyncpg.UniqueViolationError):
            planted.run("CREATE UNIQUE INDEX CONCURRENTLY half ON people (town)")
    planted.run("CREATE INDEX whole ON people (pad)")
    for index in ("gone", "half", "whole"):
        change = f'DROP INDEX CONCURRENTLY "{index}"'
        await planted.ledger.begin(change, index=index, table="people", statement="", before_ms=0.0)
    await planted.optimize()
    entries = {one.index: one for one in await planted.ledger.latest(10)}
    verdicts = {index: one.verdict for index, one in entries.items()}
    assert verdicts == {"gone": "done", "half": "done", "whole": "failed"}
    assert "it is there as it was" in entries["whole"].reason
    indexes = await planted.indexes()
    assert "whole" in indexes
    assert "half" not in indexes


@POSTGRES
async def test_mc16_what_is_somebody_elses_stays_as_it_is(planted: Planted) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        planted.run(
            "CREATE TABLE care_home (id int PRIMARY KEY, bed int)",
            "CREATE TABLE shop (id int PRIMARY KEY, ref text)",
            "INSERT INTO shop SELECT i, i::text FROM generate_series(1, 5000) AS i",
            "DELETE FROM shop WHERE id > 3000",
            "CREATE INDEX shop_ref ON shop (ref)",
            "CREATE INDEX shop_ref_again ON shop (ref)",
            "INSERT INTO care_home VALUES (1, 1), (2, 1)",
            "CREATE UNIQUE INDEX CONCURRENTLY care_home_bed ON care_home (bed)",
        )
    before = await planted.indexes()
    said = [
        *await planted.care.advice(),
        *(await planted.optimize()).values(),
        *(await planted.maintain()).values(),
    ]
    assert "shop" not in repr(said)
    assert "care_home" not in repr(said)
    planted.watch(Statement("test.read", "SELECT ref FROM shop WHERE id + 0 < ? AND ref = 'x'"))
    assert await planted.findings("missing indexes") == []
    (refused,) = (await planted.optimize(Wish("shop", ("ref",)))).values()
    assert (refused.verdict, refused.reason) == (
        "failed",
        "There is no table shop with the columns ref.",
    )
    assert await planted.indexes() == before


@POSTGRES
async def test_mc4_indexes_that_are_kept_otherwise_do_not_repeat_each_other(
    planted: Planted,
) -> None:
    planted.run(
        "CREATE INDEX plain ON people (pad)",
        "CREATE INDEX hot ON people (pad) WITH (fillfactor = 50)",
        "CREATE INDEX patterns ON people (pad text_pattern_ops)",
        'CREATE INDEX collated ON people (pad COLLATE "C")',
        "CREATE INDEX partly ON people (pad) WHERE age > 3",
        "CREATE INDEX backwards ON people (pad DESC)",
        "CREATE INDEX hashed ON people USING hash (pad)",
    )
    assert await planted.findings("needless indexes") == []
    planted.run("CREATE INDEX warm ON people (pad) WITH (fillfactor = 50)")
    (finding,) = await planted.findings("needless indexes")
    assert (finding.index, finding.safe) == ("warm", True)


@POSTGRES
async def test_mc10_a_build_that_broke_off_leaves_nothing(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        planted.run("CREATE UNIQUE INDEX CONCURRENTLY care_people_twice ON people (town)")
    (finding,) = await planted.findings("invalid indexes")
    assert finding.index == "care_people_twice"
    assert "drop care_people_twice" not in await planted.optimize(), (
        "by its name it may be anybody's"
    )
    assert "care_people_twice" in await planted.indexes()
    entry = await planted.ledger.begin(
        "CREATE INDEX …", index="care_people_twice", table="people", statement="", before_ms=0.0
    )
    await planted.ledger.end(entry, "failed", "It could not be dropped.")
    assert (await planted.optimize())["drop care_people_twice"].verdict == "done"
    assert "care_people_twice" not in await planted.indexes()

    for module in (postgres_care, cleaning):
        monkeypatch.setattr(module, "LOCK_SECONDS", 0.3)
    planted.watch(OF_TOWN)
    holder = await asyncpg.connect(planted.dsn)
    try:
        await holder.execute("BEGIN; LOCK TABLE people IN SHARE UPDATE EXCLUSIVE MODE")
        outcome = (await planted.optimize())[planted.create("people", "town")]
    finally:
        await holder.close()
    assert outcome.verdict == "failed"
    assert "Somebody held it" in outcome.reason
    assert "care_people_town" not in await planted.indexes()
    assert (await planted.optimize())[planted.create("people", "town")].verdict == "done"


@EVERY
async def test_mc12_our_own_tables_have_no_needless_index_and_lack_none(
    empty: Opened,
) -> None:
    database, dsn = empty
    async with database:
        if isinstance(database, PostgresDatabase):
            await database.started()
            connection = await asyncpg.connect(dsn)
            try:
                form = schema.form_of_postgres(
                    *[
                        [tuple(row) for row in await connection.fetch(sql)]
                        for sql in (
                            schema.TABLES_POSTGRES,
                            schema.INDEXES_POSTGRES,
                            schema.FOREIGN_KEYS_POSTGRES,
                        )
                    ]
                )
            finally:
                await connection.close()
        else:
            form = await database.query(schema.form_of_sqlite)
    engine = "postgres" if isinstance(database, PostgresDatabase) else "sqlite"
    assert set(form.tables) - {"people", "towns", "schema_form"} == schema.own_tables(engine)
    assert len(form.tables) > 8
    assert len(form.indexes) > 12
    assert len(form.foreign_keys) >= 2
    assert list(schema.duplicates(form, keep=frozenset())) == []
    assert list(schema.unindexed(form)) == []
    assert list(schema.keyless(form)) == []
    assert [one.name for one in form.indexes if not one.valid] == []


@BOTH
async def test_mc13_no_value_that_a_statement_ran_with_is_kept(planted: Planted) -> None:
    planted.watch(OF_TOWN)
    town = Statement("test.change", "UPDATE people SET town = 'secret' || town")
    await planted.database.write(town)
    said = [*(await planted.care.advice()), *(await planted.optimize()).values()]
    assert "secret" not in repr([*said, *await planted.ledger.latest(10)])


async def test_mc1_the_servers_own_figures_are_used_where_it_keeps_them(
    new_postgres: Callable[..., PostgresServer],
) -> None:
    server = new_postgres(
        durable=False, settings={"shared_preload_libraries": "pg_stat_statements"}
    )
    async with PostgresDatabase(DatabaseKnobs(url=server.url, pool_min=0), "one") as database:
        await database.started()
        planted = Planted(database, server.url)
        planted.run(*PLANTED, "ANALYZE", "CREATE EXTENSION pg_stat_statements")
        planted.run("CREATE EXTENSION amcheck")
        planted.watch(OF_TOWN)
        for _ in range(3):
            await planted.database.read(OF_TOWN, "a secret place")
        run_sql(server.url, "CREATE ROLE other SUPERUSER LOGIN")
        other = await asyncpg.connect(server.url, user="other")
        await other.fetch(text_of(OF_TOWN), "what another user runs does not count")
        await other.close()
        (finding,) = await planted.findings("missing indexes")
        assert finding.mend == planted.create("people", "town")
        assert "3 calls" in finding.evidence
        assert "pg_stat_statements" in finding.evidence
        assert "secret" not in repr(finding)
        assert (await planted.optimize())[finding.mend].verdict == "done"
        assert (await planted.maintain())["check indexes"].verdict == "done"


STEAL = """
CREATE FUNCTION guest.steal() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN guest.take(); END $$
"""
TAKE = """
CREATE FUNCTION guest.take() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN
    INSERT INTO guest.loot VALUES (current_user);
    IF current_user = 'guest' THEN PERFORM pg_sleep(0.5); END IF;
    RETURN 1;
END $$
"""


async def test_mc16_what_another_user_has_run_is_neither_planned_nor_told(
    new_postgres: Callable[..., PostgresServer],
) -> None:
    """To plan a text runs what it promises to be constant, with the rights of whoever plans."""
    server = new_postgres(
        durable=False, settings={"shared_preload_libraries": "pg_stat_statements"}
    )
    run_sql(server.url, "CREATE EXTENSION pg_stat_statements", "CREATE ROLE guest LOGIN")
    run_sql(server.url, "CREATE SCHEMA guest AUTHORIZATION guest")
    guest = server.url.replace("://tableforge@", "://guest@")
    assert guest != server.url
    taking = "SELECT guest.steal()"
    run_sql(guest, "CREATE TABLE guest.loot (who text)", TAKE, STEAL, *[taking] * 3)
    run_sql(server.url, f"/* the operator */ {taking}")
    run_sql(server.url, "DELETE FROM guest.loot")
    async with PostgresDatabase(DatabaseKnobs(url=server.url, pool_min=0), "one") as database:
        await database.started()
        planted = Planted(database, server.url)
        said = [*(await planted.care.advice()), *(await planted.optimize()).values()]
        assert "steal" not in repr(said)
        assert await database.read(Statement("test.loot", "SELECT who FROM guest.loot")) == []
        # Even a text that is known as ours changes nothing when it is planned.
        planted.watch(Statement("test.stolen", taking))
        await planted.care.advice()
        await planted.optimize()
        assert await database.read(Statement("test.loot", "SELECT who FROM guest.loot")) == []
