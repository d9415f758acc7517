"""PostgreSQL as the database of a fleet.

Every statement is bounded twice: by the server (`DB_STATEMENT_TIMEOUT`), and here (`DB_QUERY_TIMEOUT`), for a server that
does not answer at all. While the database is away what may be sent again waits for it, up to `DB_CONNECTION_TIMEOUT`; once
it has been away for longer, calls are refused at once.
"""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import lru_cache
from secrets import SystemRandom
from types import TracebackType
from typing import Final, NoReturn, Self, TypeVar
from urllib.parse import parse_qsl, urlencode, urlunsplit

import asyncpg
import structlog

from tableforge.config import CareKnobs, DatabaseKnobs, server_name, split_address
from tableforge.database import DatabaseUnavailable, Row, Statement, Step
from tableforge.database.admission import Slots
from tableforge.database.cards import CARD_SECONDS, Cards, PoolFigures, pool_figures
from tableforge.database.cards.postgres import Onlooker
from tableforge.database.large_indexes import index_large_tables, index_small_tables
from tableforge.database.migrations import scripts
from tableforge.database.observing import Observer, Watch
from tableforge.database.pool import Connection, Pool
from tableforge.errors import StartRefused, TableForgeError

T = TypeVar("T")

OLDEST_SERVER = 15
MIGRATION_LOCK = 0x7461626C65
"""The advisory lock under which one of those that start brings the tables to the present form."""
MIGRATION_LOCK_TIMEOUT = "5s"
"""A script that waits longer for a table gives way, for what waits behind it stands still; then it is tried again."""
TEND_SECONDS = 1.0
PROBE_SECONDS = 0.2
"""Between two looks for a database that is away."""
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0

CHANGING: Final = ("room_heads", "instances", "sessions", "invites", "rooms", "seats", "designs")
"""Tables whose rows change: dead rows are cleaned up early."""
GROWING: Final = ("events", "snapshots", "assets", "asset_chunks", "design_versions", "notices")
"""Tables that mostly grow: cleaned, and so frozen and marked visible, after a share of new rows as well."""

BEGIN = Statement("transaction.begin", "BEGIN")
COMMIT = Statement("transaction.commit", "COMMIT")
ROLLBACK = Statement("transaction.rollback", "ROLLBACK")

log = structlog.get_logger(__name__)
chance = SystemRandom()

NOTHING_DONE: Final = "Nothing was saved or read."
LOOK: Final = "Look whether PostgreSQL runs, and at its address, port and firewall."
"""How an operator mends a database that does not answer; whoever plays can only wait."""

FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What the driver raises when a statement fails, whatever the reason."""

LOST_STATES: Final = frozenset({"57P01", "57P02", "57P05", "25P03"})
"""The server ended the session: whether it had committed before is not known."""
AWAY_STATES: Final = frozenset({"57P03", "25006", "53300"})
"""Not this server, or not now: nothing was changed."""
CLASH_STATES: Final = frozenset({"40001", "40P01", "55P03"})
"""Another session was in the way: nothing was changed."""


def state_of(error: BaseException) -> str:
    """The SQLSTATE of a server's refusal, or nothing."""
    return str(getattr(error, "sqlstate", None) or "")


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, and with it the outcome of what was sent."""
    return (
        isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError)
        or (isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError))
        or state_of(error).startswith("08")
        or state_of(error) in LOST_STATES
    )


def is_passing(error: BaseException) -> bool:
    """Whether the server refused, changing nothing, for a reason that passes by itself."""
    return (
        state_of(error) in AWAY_STATES
        or state_of(error) in CLASH_STATES
        or isinstance(error, asyncpg.InvalidCachedStatementError)
    )


def reason(error: BaseException) -> tuple[str, str]:
    """Why a statement failed, and how an operator mends it, as two sentences."""
    state = state_of(error)
    if state == "25006":
        return (
            "The database is read-only for now.",
            "Nothing is needed while a failover is under way; else have DATABASE_URL lead to the primary.",
        )
    if state == "53100":
        return "The database's disk is full.", "Free some room on it; nothing else is needed."
    if state == "53300":
        return (
            "The database has no connection left.",
            "Lower DB_POOL_MAX, or raise max_connections of PostgreSQL.",
        )
    if state == "42501":
        return (
            "The database denies this server's user a right it needs.",
            "Grant it: docs/fleet.md lists them.",
        )
    if state == "57014":
        return "The database gave up on a statement that took longer than DB_STATEMENT_TIMEOUT.", ""
    if is_lost(error):
        told = silence(error)
        return f"The database does not answer{f': {told}' if told else ''}.", LOOK
    return f"The database says: {str(error).splitlines()[0] if str(error) else state}.", ""


def silence(error: BaseException) -> str:
    """Why nobody answers, if that is known; without our address, for players read it too."""
    if isinstance(error, socket.gaierror | ssl.SSLError):
        return str((isinstance(error, ssl.SSLError) and error.strerror) or error)
    if "rejected SSL upgrade" in str(error):
        return "it takes no TLS"
    # Where a name has several addresses, the numbers stand in the text alone.
    found = isinstance(error, OSError) and re.search(r"\[Errno (\d+)\]", str(error))
    return f"{found[0]} {os.strerror(int(found[1]))}" if found else ""


def to_players(why: str, mend: str) -> DatabaseUnavailable:
    """What to tell whoever asked for something that was not done."""
    return DatabaseUnavailable(
        NOTHING_DONE, why, "Send it again in a moment." if mend == LOOK else mend
    )


def refused(error: BaseException) -> DatabaseUnavailable:
    """The same, of a statement that failed."""
    return to_players(*reason(error))


def pauses() -> Iterator[float]:
    """Growing pauses in seconds, each drawn from its upper half, so that many who wait do not return together."""
    longest = FIRST_PAUSE_SECONDS
    while True:
        yield chance.uniform(longest / 2, longest)
        longest = min(longest * 2, LONGEST_PAUSE_SECONDS)


PLACEHOLDER = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\?(\d*)""")


@lru_cache(maxsize=1_000)
def text_of(statement: Statement) -> str:
    """The statement as PostgreSQL takes it: `?` and `?N` become `$N`, but for those in literals, names and comments."""
    last = 0

    def numbered(match: re.Match[str]) -> str:
        nonlocal last
        if match[1] is None:
            return match[0]
        number = int(match[1]) if match[1] else last + 1
        last = max(last, number)
        return f"${number}"

    return PLACEHOLDER.sub(numbered, statement.postgres or statement.sql)


class PostgresDatabase:
    """See `Database` for what holds; an async context.

    Entering returns at once: the database is reached, and brought to the present form, in the background, and `trouble`
    says why it is not there yet. `started` raises what no waiting can mend.
    """

    engine: Final = "PostgreSQL"

    def __init__(
        self, knobs: DatabaseKnobs, instance_id: str, care: CareKnobs | None = None
    ) -> None:
        care = care or CareKnobs()
        self._knobs = knobs
        self._instance_id = instance_id
        self._query_seconds = knobs.query_timeout_ms / 1000
        self.patience_seconds = knobs.connection_timeout_ms / 1000
        """How long whatever may be sent again waits for the database to come back."""
        self._dsn, self._cached_statements = self._address()
        self.prepares = self._cached_statements > 0
        """Whether prepared statements may be kept: behind a pooler that lends connections by the transaction, no."""
        self.name = server_name(self._dsn)
        """Where it is, without secrets."""
        self._slots = Slots(
            high=knobs.pool_max, reserve=care.pool_reserve, within=care.admission_ms / 1000
        )
        self._pool = Pool(
            self.dial,
            slots=self._slots,
            low=knobs.pool_min,
            idle_seconds=knobs.idle_timeout_ms / 1000,
        )
        self.observer = Observer(
            slow_seconds=knobs.slow_query_ms / 1000, log_all=knobs.query_logging
        )
        self._onlooker = Onlooker(
            lambda: self.dial(command_seconds=CARD_SECONDS + 1),
            self.observer,
            lambda error: reason(error)[0],
        )
        self._ready = asyncio.Event()
        self._refusal: StartRefused | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._since = 0.0
        self._is_read_only = False
        self._closed = False
        self.trouble: DatabaseUnavailable | StartRefused | None = None
        """Why the database cannot be used, for operators; None while it can."""

    def _address(self) -> tuple[str, int]:
        """The address for the driver, and how many prepared statements a connection may keep."""
        knobs = self._knobs
        if knobs.url is None:
            host = knobs.host or "localhost"
            host = f"[{host}]" if ":" in host else host
            return f"postgresql://{host}:{knobs.port}/{knobs.name}", 100
        try:
            parts = split_address(knobs.url)
        except ValueError:
            raise self._start_refused(
                "The address of the database cannot be read.", "Mend DATABASE_URL."
            ) from None
        query = dict(parse_qsl(parts.query))
        kept = query.pop("statement_cache_size", "100")
        if not kept.isdecimal():
            raise StartRefused(
                "The server did not start.",
                "statement_cache_size in DATABASE_URL is not a whole number.",
                "Give 0 behind a pooler that lends connections by the transaction, else leave it out.",
            )
        if "," in parts.netloc:
            query.setdefault("target_session_attrs", "read-write")
        return urlunsplit(parts._replace(query=urlencode(query, safe="/,"))), int(kept)

    async def dial(self, *, command_seconds: float | None = None) -> Connection:
        """Open a connection outside of the pool, set up as all are; what the driver raises comes through."""
        knobs = self._knobs
        in_parts = knobs.url is None
        connection: Connection = await asyncpg.connect(
            self._dsn,
            user=knobs.user if in_parts else None,
            password=knobs.password if in_parts else None,
            timeout=self.patience_seconds,
            command_timeout=command_seconds or self._query_seconds,
            statement_cache_size=self._cached_statements,
            server_settings={"application_name": f"tableforge/{self._instance_id}"},
        )
        try:
            # Not sent as settings of the start-up packet: poolers refuse what they do not know there.
            wait_ms = round(knobs.connection_timeout_ms / 2)
            await connection.execute(
                "SET synchronous_commit = on; SET jit = off;"
                f"SET statement_timeout = {round(knobs.statement_timeout_ms)};"
                f"SET lock_timeout = {wait_ms};"
                f"SET idle_in_transaction_session_timeout = {wait_ms}"
            )
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def __aenter__(self) -> Self:
        self._since = asyncio.get_running_loop().time()
        self.trouble = DatabaseUnavailable(NOTHING_DONE, "The database was not reached yet.")
        self._tasks = [
            asyncio.create_task(self._tend()),
            asyncio.create_task(self.observer.attend(self._onlooker.explain, self._onlooker.look)),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._onlooker.close()
        self._pool.close()

    async def started(self) -> None:
        """Return once the database can be used; raises `StartRefused` for what no waiting can mend."""
        await self._ready.wait()
        if self._refusal is not None:
            raise self._refusal

    async def _tend(self) -> None:
        """Reach the database, then keep the pool in order, and look for the database whenever it is away."""
        for pause in pauses():
            try:
                if await self._open():
                    break
            except StartRefused as refusal:
                self._refusal = self.trouble = refusal
                self._ready.set()
                return
            except FAILURES as error:
                self.hear_of(error, dialling=True)
            await asyncio.sleep(pause)
        self._ready.set()
        while True:
            try:
                if self.trouble is not None:
                    await self.probe()
                await self._pool.tend()
            except DatabaseUnavailable:
                pass  # `trouble` says so
            except FAILURES as error:
                self.hear_of(error, dialling=True)
            await asyncio.sleep(TEND_SECONDS if self.trouble is None else PROBE_SECONDS)

    async def _open(self) -> bool:
        try:
            connection = await self.dial(command_seconds=86_400.0)
        except (*FAILURES, ValueError) as error:
            self.refuse_for_good(error)
            raise
        try:
            if not await migrate(connection):
                return False
            await tune(connection, self._knobs)
        except FAILURES as error:
            if state_of(error) == "42501":
                raise self._start_refused(
                    "The tables are not there in the present form, and this user may not change them, or may not read them.",
                    "Run `tableforge migrate --schema-only` as their owner, then the GRANTs of docs/fleet.md;"
                    " `tableforge doctor` names what is lacking.",
                ) from error
            if state_of(error) == "42P07":
                raise self._start_refused(
                    f"The database has tables already that are not ours: {error}.",
                    "Name an empty database in DATABASE_URL or DATABASE_NAME.",
                ) from error
            raise
        finally:
            connection.terminate()
        self.works(wrote=True)
        log.info("database reached", server=self.name)
        return True

    def _start_refused(self, why: str, mend: str) -> StartRefused:
        return StartRefused("The server did not start.", why, mend)

    def refuse_for_good(self, error: BaseException) -> None:
        """Raise `StartRefused` for a failure to connect that only an operator can mend."""
        state = state_of(error)
        if state.startswith("28"):
            raise self._start_refused(
                f"The database at {self.name} refuses this user or password ({state}).",
                "Mend DATABASE_USER and DATABASE_PASSWORD, or DATABASE_URL, or its pg_hba.conf.",
            ) from error
        if state == "3D000":
            raise self._start_refused(
                f"There is no such database: {self.name}.",
                "Create it (`createdb`), or mend DATABASE_NAME or DATABASE_URL.",
            ) from error
        if state in ("42704", "22023") or isinstance(error, asyncpg.ClientConfigurationError):
            raise self._start_refused(
                f"The address of the database cannot be used: {str(error).splitlines()[0]}.",
                "Mend DATABASE_URL.",
            ) from error
        if isinstance(error, ValueError):
            # Its text may hold a part of the password.
            raise self._start_refused(
                "The address of the database cannot be read.", "Mend DATABASE_URL."
            ) from None

    def _trouble(self, trouble: DatabaseUnavailable) -> None:
        if self.trouble is None:
            self._since = asyncio.get_running_loop().time()
        if self.trouble is None or self.trouble.why != trouble.why:
            what = "database in trouble" if self._ready.is_set() else "waiting for the database"
            log.warning(what, server=self.name, why=trouble.why)
        self.trouble = trouble

    def hear_of(self, error: BaseException, *, dialling: bool = False) -> None:
        """Take note of a failure: one that means the server is away shows in `trouble`, and costs the resting connections.

        A lost connection alone is no trouble: the next one may open at once.
        """
        state = state_of(error)
        if is_lost(error) or state in AWAY_STATES:
            self._pool.drop_rested()
        if dialling or state in AWAY_STATES or isinstance(error, TimeoutError):
            self._is_read_only = state == "25006"
            self._trouble(DatabaseUnavailable(NOTHING_DONE, *reason(error)))

    def works(self, *, wrote: bool) -> None:
        """Take note of a success, of a change or of a read: the trouble there was is over."""
        if self.trouble is not None and (wrote or not self._is_read_only):
            if self._ready.is_set():
                log.info("database well again", server=self.name)
            self.trouble = None
            self._is_read_only = False

    @property
    def deadline(self) -> float:
        """Until when, by the loop's clock, a call that begins now waits for the database."""
        now = asyncio.get_running_loop().time()
        return (min(now, self._since) if self.trouble is not None else now) + self.patience_seconds

    async def probe(self) -> None:
        """Ask whether the database takes changes; raises `DatabaseUnavailable` when it does not."""
        try:
            connection = await self.dial()
            try:
                if await connection.fetchval("SHOW transaction_read_only") == "on":
                    raise asyncpg.ReadOnlySQLTransactionError("the database is read-only")
            finally:
                connection.terminate()
        except FAILURES as error:
            self.hear_of(error, dialling=True)
            raise refused(error) from error
        self.works(wrote=True)

    async def _take(self, deadline: float, *, background: bool) -> Connection:
        """A connection, or `DatabaseUnavailable` when there is none until the deadline."""
        if self._closed:
            raise DatabaseUnavailable("Nothing was saved.", "The database is closed.")
        if self.trouble is not None and asyncio.get_running_loop().time() >= deadline:
            raise self._away(self.trouble)
        try:
            async with asyncio.timeout_at(deadline):
                await self._ready.wait()
                if self._refusal is not None:
                    raise self._away(self._refusal)
                for pause in pauses():
                    try:
                        return await self._pool.take(background=background)
                    except FAILURES as error:
                        self.hear_of(error, dialling=True)
                        if not is_lost(error) and not is_passing(error):
                            raise refused(error) from error
                    await asyncio.sleep(pause)
        except TimeoutError as error:
            if self.trouble is not None:
                raise self._away(self.trouble) from error
            raise DatabaseUnavailable(
                NOTHING_DONE,
                f"All {self._knobs.pool_max} connections to the database are in use.",
                "Send it again in a moment; if it stays so, raise DB_POOL_MAX.",
            ) from error
        raise AssertionError("the pauses do not end")

    def _away(self, trouble: TableForgeError) -> DatabaseUnavailable:
        return to_players(trouble.why, trouble.mend)

    async def _run(
        self,
        work: Callable[[Connection, "Progress"], Awaitable[T]],
        *,
        wrote: bool,
        background: bool,
    ) -> T:
        """Do `work` on a connection, and again while that is safe and the deadline has not come."""
        deadline = self.deadline
        for pause in pauses():
            connection = await self._take(deadline, background=background)
            progress = Progress()
            try:
                result = await work(connection, progress)
            except FAILURES as error:
                lost = is_lost(error)
                sound = not lost and state_of(error) not in AWAY_STATES
                if sound and connection.is_in_transaction():
                    sound = await self._rolled_back(connection)
                self._pool.give_back(connection, sound=sound)
                if isinstance(error, ValueError):
                    raise  # a parameter of the wrong type: a mistake of ours, whose text holds the value
                self.hear_of(error)
                if lost and progress.may_be_done:
                    raise DatabaseUnavailable(
                        "It is not known whether this was saved.",
                        "The connection to the database was lost before it answered.",
                        "Look before you do it again.",
                    ) from error
                late = asyncio.get_running_loop().time() + pause >= deadline
                if late or not (lost or is_passing(error)):
                    raise refused(error) from error
            except BaseException:
                self._pool.give_back(connection, sound=False)
                raise
            else:
                self._pool.give_back(connection, sound=True)
                self.works(wrote=wrote)
                return result
            await asyncio.sleep(pause)
        raise AssertionError("the pauses do not end")

    async def _rolled_back(self, connection: Connection) -> bool:
        try:
            await self._change(connection, ROLLBACK, ())
        except FAILURES:
            return False
        return True

    def watch(
        self,
        connection: Connection,
        name: str,
        text: str,
        params: Sequence[object],
        *,
        settings: str = "",
    ) -> Watch:
        """Watch one run of a statement on a connection, whose `settings` were made for it."""
        backend = connection.get_server_pid()
        return self.observer.watch(name, text, params, backend=backend, settings=settings)

    async def _change(
        self, connection: Connection, statement: Statement, params: Sequence[object]
    ) -> int:
        text = text_of(statement)
        with self.watch(connection, statement.name, text, params) as watch:
            watch.rows = count = count_of(await connection.execute(text, *params))
        return count

    async def read(self, statement: Statement, *params: object) -> list[Row]:
        """See the contract."""
        text = text_of(statement)

        async def work(connection: Connection, progress: "Progress") -> list[asyncpg.Record]:
            with self.watch(connection, statement.name, text, params) as watch:
                rows = await connection.fetch(text, *params)
                watch.rows = len(rows)
            return rows

        background = statement.background
        return [tuple(row) for row in await self._run(work, wrote=False, background=background)]

    async def write(self, statement: Statement, *params: object) -> int:
        """See the contract."""

        async def work(connection: Connection, progress: "Progress") -> int:
            progress.may_be_done = not statement.repeatable
            return await self._change(connection, statement, params)

        return await self._run(work, wrote=True, background=statement.background)

    async def write_all(self, steps: Sequence[Step]) -> list[int]:
        """See the contract."""

        async def work(connection: Connection, progress: "Progress") -> list[int]:
            counts = []
            await self._change(connection, BEGIN, ())
            for statement, params in steps:
                counts.append(await self._change(connection, statement, params))
            progress.may_be_done = not all(statement.repeatable for statement, _ in steps)
            await self._change(connection, COMMIT, ())
            return counts

        background = all(statement.background for statement, _ in steps)
        return await self._run(work, wrote=True, background=background)

    def pool_figures(self) -> PoolFigures:
        """See `Observed`."""
        return pool_figures(self._slots, idle=self._pool.idle)

    async def cards(self) -> Cards:
        """See `Observed`."""
        return await self._onlooker.cards()


class Progress:
    """How far a piece of work has come: whether it may be done although its connection was lost."""

    __slots__ = ("may_be_done",)

    def __init__(self) -> None:
        self.may_be_done = False


def count_of(tag: str) -> int:
    """How many rows a statement touched, from the tag that the server answers with, such as `INSERT 0 1`; 0 for `BEGIN`."""
    count = tag.rpartition(" ")[2]
    return int(count) if count.isdecimal() else 0


async def form_of(connection: Connection) -> int:
    """The number of the newest migration that this database has had."""
    # Reading pg_class has the server take in what other sessions created; to_regclass alone, behind the lock of `migrate`,
    # may answer from what this session remembers.
    known = "SELECT 1 FROM pg_class WHERE oid = to_regclass('schema_form')"
    if await connection.fetchval(known) is None:
        return 0
    number: int | None = await connection.fetchval("SELECT max(number) FROM schema_form")
    return number or 0


async def migrate(connection: Connection) -> bool:
    """Bring the database to the present form; False while another one does. Raises `StartRefused` for a newer form.

    All that is missing goes in one transaction, but for indexes of tables that are large by now: those follow it. The
    lock is asked for, never waited for: who waits in a statement holds a snapshot that can stand in the way of what it
    waits for.
    """
    if connection.get_server_version().major < OLDEST_SERVER:
        raise StartRefused(
            "The server did not start.",
            f"This is PostgreSQL {connection.get_server_version().major}.",
            f"Use PostgreSQL {OLDEST_SERVER} or newer.",
        )
    steps = scripts("postgres")
    newest = steps[-1].number
    if await _known(connection, newest) == newest:
        await index_large_tables(connection)
        return True
    async with connection.transaction():
        await connection.execute(
            f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{MIGRATION_LOCK_TIMEOUT}';"
            "SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", MIGRATION_LOCK):
            return False
        present = await _known(connection, newest)
        if present == 0:
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_form (number integer PRIMARY KEY, name text NOT NULL,"
                " at timestamptz NOT NULL DEFAULT now())"
            )
        for step in steps:
            if step.number > present:
                await connection.execute(step.text)
                await connection.execute(
                    "INSERT INTO schema_form (number, name) VALUES ($1, $2)", step.number, step.name
                )
                log.info("database migrated", script=step.name)
        await index_small_tables(connection)
    await index_large_tables(connection)
    return True


async def tune(connection: Connection, knobs: DatabaseKnobs) -> None:
    """Give the tables their autovacuum settings, or take them off; a user who may not is left with a warning."""
    changing = {"autovacuum_vacuum_scale_factor": f"{knobs.vacuum_threshold:g}"}
    growing = {
        "autovacuum_vacuum_insert_scale_factor": "0.02",
        "autovacuum_analyze_scale_factor": "0.02",
    }
    rows = await connection.fetch(
        "SELECT relname, coalesce(reloptions, '{}') AS options FROM pg_class"
        " WHERE oid = ANY ($1::text[]::regclass[])",
        [*CHANGING, *GROWING],
    )
    for row in rows:
        wanted = changing if row["relname"] in CHANGING else growing
        present = dict(option.split("=", 1) for option in row["options"])
        if not knobs.autovacuum_tuning:
            change = f"RESET ({', '.join(wanted)})" if wanted.keys() & present.keys() else ""
        elif wanted.items() <= present.items():
            change = ""
        else:
            change = f"SET ({', '.join(f'{key} = {value}' for key, value in wanted.items())})"
        if change:
            try:
                await connection.execute(f"ALTER TABLE {row['relname']} {change}")
            except asyncpg.InsufficientPrivilegeError:
                log.warning("autovacuum was not tuned", table=row["relname"])


async def _known(connection: Connection, newest: int) -> int:
    present = await form_of(connection)
    if present > newest:
        _refuse_newer(present, newest)
    return present


def _refuse_newer(present: int, newest: int) -> NoReturn:
    raise StartRefused(
        "The server did not start.",
        f"The database was migrated by a newer TableForge (form {present}; this one knows {newest}).",
        "Install that version or a later one, or name another database.",
    )
