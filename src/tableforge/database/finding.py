"""Lists and searches in bounded time, however many rows there are and whatever is looked for.

A listing is walked in its order, at most `WALKED` rows of it: what matches often fills a page on the way, and most owners
have fewer rows anyway. Where that does not fill the page, what is looked for is rare, and the index of terms (every three
characters of a name, whole tags) tells the few rows that can match, at most `CANDIDATES`. Only what is rare among the
newest and yet frequent in all is left: then the page holds what was found on the walk, perhaps nothing, and the next one
goes on behind it. So a page may be short although more follow; only the lack of a next one is the end.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from tableforge.database import Row, Statement

WALKED: Final = 2_000
"""How many rows of a listing one page may look at."""
CANDIDATES: Final = 2_000
"""How many rows the index of terms may name before it counts as no help."""
SHORTEST: Final = 3
"""A part of a name with fewer characters is in no index of terms."""

Read = Callable[..., Awaitable[list[Row]]]


class Listing(NamedTuple):
    """The two ways to the same rows. Each row's last column is 1; a last row with a 0 there says that this is not all.

    `walk` ends with such a row where it does not fill the page within `WALKED` rows: the one that it came to. `search` gives
    nothing else where there are more than `CANDIDATES` candidates. Both take the same parameters, the last of them being
    how many rows to give at most.
    """

    walk: Statement
    search: Statement


class Found(NamedTuple):
    """The rows of a page; `last` is the row behind which the next page begins, None at the end."""

    rows: list[Row]
    last: Row | None


async def page(
    read: Read, listing: Listing, *params: object, limit: int, part: str, tag: str
) -> Found:
    """One page of at most `limit` rows; `part` and `tag` are what is looked for, as they stand among `params`."""
    rows = await read(listing.walk, *params, limit + 1)
    hits = [row[:-1] for row in rows if row[-1]]
    edge = rows[-1][:-1] if rows and not rows[-1][-1] else None
    if edge is not None and len(hits) < limit and (tag or len(part) >= SHORTEST):
        rows = await read(listing.search, *params, limit + 1)
        if not rows or rows[-1][-1]:
            hits, edge = [row[:-1] for row in rows], None
    if len(hits) > limit:
        return Found(hits[:limit], hits[limit - 1])
    return Found(hits, edge)


def sought(column: str, part: str, tag: str) -> str:
    """What SQLite's index of names in this column, and of tags, is asked for, as SQL over two parameters.

    Of a long text no more than four of the terms that it must have, spread over it, since each one costs. A tag stands in
    its quotes, so that it is long enough.
    """

    def terms(where: str, text: str) -> str:
        places = (f"1 + (length({text}) - 3) * {number} / 3" for number in range(4))
        quoted = (f"replace(substr({text}, {place}, 3), '\"', '\"\"')" for place in places)
        return f"'{where} : (\"' || " + " || '\" AND \"' || ".join(quoted) + " || '\")'"

    return (
        f"(CASE WHEN length({part}) >= {SHORTEST} THEN {terms(column, part)} ELSE '' END"
        f" || CASE WHEN length({part}) >= {SHORTEST} AND {tag} <> '' THEN ' AND ' ELSE '' END"
        f" || CASE WHEN {tag} <> '' THEN {terms('tags', f'json_quote({tag})')} ELSE '' END)"
    )


def listing(
    name: str,
    table: str,
    columns: str,
    *,
    keys: tuple[str, ...],
    owner: str,
    terms: str,
) -> Listing:
    """The statements for a table whose rows have `search`, `tags` (a JSON list), `created_ms` and `id`, the newest first.

    `columns` are what is wanted of a row; the last three of these must be among them.

    Its rows are those with the values of `keys`, the first columns of an index that goes on with `created_ms` and `id`.
    `terms` are the terms of a row in the index of terms, `owner` one that they all have, made of the parameters. Those are
    the values of the keys, part, tag, `created_ms` and `id` of the row behind which the page begins, limit.
    """
    values = ", ".join(f"?{number}" for number in range(1, len(keys) + 1))
    part, tag, created, behind, limit = (f"?{len(keys) + number}" for number in range(1, 6))
    names, falling = ", ".join(keys), "created_ms DESC, id DESC"
    index = table.removesuffix("s") + "_terms"
    scope = f"({names}) = ({values}) AND (created_ms, id) < ({created}, {behind})"
    walked = {
        "sqlite": f"{scope} ORDER BY {falling}",
        # One plan is kept for whoever asks, and would sort all that a usual owner has. So this names a stretch of the index,
        # of which nobody can know beforehand how long it is.
        "postgres": f"({names}, created_ms, id) < ({values}, {created}, {behind}) AND ({names}) >= ({values})"
        f" ORDER BY {' DESC, '.join(keys)} DESC, {falling}",
    }
    matches = {
        "sqlite": f"(({part} = '' OR instr(search, {part}) > 0) AND ({tag} = '' OR"  # noqa: S608 - numbers of parameters
        f" (instr(tags, json_quote({tag})) > 0 AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = {tag}))))",
        "postgres": f"(({part} = '' OR strpos(search, {part}) > 0) AND ({tag} = '' OR"
        f" (strpos(tags, to_json({tag}::text)::text) > 0 AND jsonb_exists(tags::jsonb, {tag}))))",
    }
    candidates = {
        "sqlite": f"SELECT {table}.* FROM {index} JOIN {table} ON {table}.num = {index}.rowid"  # noqa: S608 - as above
        f" WHERE {index} MATCH {sought('search', part, tag)}",
        "postgres": f"SELECT * FROM {table} WHERE {terms} @@ finding_query({owner}, {tag}, {part})",  # noqa: S608 - as above
    }
    walk = """WITH found AS MATERIALIZED (
        SELECT {columns} FROM (SELECT {columns}, search FROM {table} WHERE {walked} LIMIT {most}) AS walked
        WHERE {matches} LIMIT {limit}
    ) SELECT {columns}, 1 FROM found
    UNION ALL SELECT {columns}, 0 FROM {table} WHERE (SELECT count(*) FROM found) < {limit} AND id = (
        SELECT id FROM {table} WHERE {walked} LIMIT 1 OFFSET {most} - 1
    )"""
    search = """WITH candidates AS MATERIALIZED ({candidates} LIMIT {most} + 1),
    found AS (
        SELECT {columns} FROM candidates WHERE (SELECT count(*) FROM candidates) <= {most} AND {scope} AND {matches}
        ORDER BY {falling} LIMIT {limit}
    ) SELECT {columns}, 1 FROM found
    UNION ALL SELECT {nothing}, 0 WHERE (SELECT count(*) FROM candidates) > {most}"""

    def made(kind: str, text: str, most: int) -> Statement:
        sqlite, postgres = (
            text.format(
                columns=columns,
                table=table,
                walked=walked[engine],
                matches=matches[engine],
                candidates=candidates[engine],
                scope=scope,
                falling=falling,
                limit=limit,
                most=most,
                nothing=", ".join(["NULL"] * len(columns.split(","))),
            )
            for engine in ("sqlite", "postgres")
        )
        return Statement(f"{name}_{kind}", sqlite, postgres, background=True)

    return Listing(made("walk", walk, WALKED), made("search", search, CANDIDATES))
