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

WALKED: Final = 4_000
"""How many rows of a listing one page may look at."""
CANDIDATES: Final = 3_000
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


def listing(
    name: str,
    table: str,
    columns: str,
    *,
    scope: str,
    owner: str,
    terms: str,
    first: int,
) -> Listing:
    """The statements for a table whose rows have `search`, `tags` (a JSON list), `created_ms` and `id`, the newest first.

    `scope` is a condition over the parameters before `first`, `owner` the term that all its rows have in the index of
    terms, as SQL over the same, and `terms` the terms of a row. The parameters from `first` on: part, tag, `created_ms` and
    `id` of the row behind which the page begins, limit.
    """
    part, tag, created, behind, limit = (f"?{number}" for number in range(first, first + 5))
    index = table.removesuffix("s") + "_terms"
    matches = {
        "sqlite": f"(({part} = '' OR instr(search, {part}) > 0) AND ({tag} = '' OR"  # noqa: S608 - numbers of parameters
        f" (instr(tags, json_quote({tag})) > 0 AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = {tag}))))",
        "postgres": f"(({part} = '' OR strpos(search, {part}) > 0)"
        f" AND ({tag} = '' OR jsonb_exists(tags::jsonb, {tag})))",
    }
    walk = """WITH found AS MATERIALIZED (
        SELECT {columns} FROM (
            SELECT {columns}, search FROM {table} WHERE {scope} AND (created_ms, id) < ({created}, {behind})
            ORDER BY created_ms DESC, id DESC LIMIT {most}
        ) AS walked WHERE {matches} LIMIT {limit}
    ) SELECT {columns}, 1 FROM found
    UNION ALL SELECT {columns}, 0 FROM {table} WHERE (SELECT count(*) FROM found) < {limit} AND id = (
        SELECT id FROM {table} WHERE {scope} AND (created_ms, id) < ({created}, {behind})
        ORDER BY created_ms DESC, id DESC LIMIT 1 OFFSET {most} - 1
    )"""
    search = """WITH candidates AS MATERIALIZED ({candidates} LIMIT {most} + 1),
    found AS (
        SELECT {columns} FROM candidates
        WHERE (SELECT count(*) FROM candidates) <= {most}
        AND {scope} AND (created_ms, id) < ({created}, {behind}) AND {matches}
        ORDER BY created_ms DESC, id DESC LIMIT {limit}
    ) SELECT {columns}, 1 FROM found
    UNION ALL SELECT {nothing}, 0 WHERE (SELECT count(*) FROM candidates) > {most}"""
    candidates = {
        "sqlite": f"SELECT {table}.* FROM {index} JOIN {table} ON {table}.num = {index}.rowid WHERE {index} MATCH"  # noqa: S608 - names and numbers of parameters
        f" (CASE WHEN length({part}) >= {SHORTEST} THEN 'search : \"' || replace({part}, '\"', '\"\"') || '\"' ELSE '' END"
        f" || CASE WHEN {tag} <> '' THEN ' tags : \"' || replace(json_quote({tag}), '\"', '\"\"') || '\"' ELSE '' END)",
        "postgres": f"SELECT * FROM {table} WHERE {terms} @@ finding_query({owner}, {tag}, {part})",  # noqa: S608 - as above
    }
    given = {
        "columns": columns,
        "table": table,
        "scope": scope,
        "created": created,
        "behind": behind,
        "limit": limit,
        "nothing": ", ".join(["NULL"] * len(columns.split(","))),
    }

    def made(kind: str, text: str, most: int) -> Statement:
        sqlite, postgres = (
            text.format(most=most, matches=matches[engine], candidates=candidates[engine], **given)
            for engine in ("sqlite", "postgres")
        )
        return Statement(f"{name}_{kind}", sqlite, postgres, background=True)

    return Listing(made("walk", walk, WALKED), made("search", search, CANDIDATES))
