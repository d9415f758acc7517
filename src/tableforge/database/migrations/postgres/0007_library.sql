-- Game systems and room templates: what is kept at a desk and put on tables. `search` is the name folded for searching,
-- `tags` a JSON list, `version` the newest of its versions, `bytes` what the documents of all of them take. Times are
-- milliseconds since 1970.
CREATE TABLE designs (
    id text PRIMARY KEY,
    kind text NOT NULL,
    owner text NOT NULL,
    name text NOT NULL,
    search text NOT NULL,
    visibility text NOT NULL,
    tags text NOT NULL,
    version bigint NOT NULL,
    created_ms bigint NOT NULL,
    updated_ms bigint NOT NULL,
    bytes bigint NOT NULL
);
CREATE INDEX designs_owner ON designs (owner, kind, created_ms, id);
CREATE INDEX designs_public ON designs (visibility, kind, created_ms, id);

-- Every version whole: what it was called, and JSON of the form that `form` numbers.
CREATE TABLE design_versions (
    design text NOT NULL REFERENCES designs (id),
    version bigint NOT NULL,
    name text NOT NULL,
    tags text NOT NULL,
    form integer NOT NULL,
    data text NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (design, version)
);

-- What rows are found by: whose they are (`!` and `@`), their tags (`#`), and every three characters of the name in turn
-- (`.`), the last ones shorter. An index over these needs no extension, and knows every script. The bodies are bound when
-- they are made, so that they mean the same under every search_path. They cost: nobody computes them for a whole table.
CREATE FUNCTION finding_terms(owners text[], tags text[], name text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 5000
    RETURN array_to_tsvector(
        array_remove(owners, NULL)
        || ARRAY(SELECT '#' || tag FROM unnest(tags) AS tag)
        || ARRAY(SELECT '.' || substr(name, place, 3) FROM generate_series(1, length(name)) AS place)
    );
CREATE FUNCTION tags_in(list text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY(SELECT jsonb_array_elements_text(list::jsonb));
CREATE FUNCTION room_terms(name text, visibility text, tags text[]) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 5000
    RETURN finding_terms(ARRAY['!' || visibility], tags, lower(name COLLATE "C"));
CREATE FUNCTION asset_terms(uploader text, room text, tags text, search text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 5000
    RETURN finding_terms(ARRAY['@' || uploader, '!' || room], tags_in(tags), search);
CREATE FUNCTION design_terms(kind text, owner text, visibility text, tags text, search text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 5000
    RETURN finding_terms(ARRAY['@' || kind || owner, '!' || kind || visibility], tags_in(tags), search);

-- Terms that a row must have to be worth a look: of a long part no more than four, spread over it, since each one costs. A
-- part of fewer than three characters begins a term.
CREATE FUNCTION finding_query(owner text, tag text, part text) RETURNS tsquery
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT string_agg(
            '''' || replace(replace(term, '\', '\\'), '''', '''''') || ''''
            || CASE WHEN length(term) < 4 AND term LIKE '.%' THEN ':*' ELSE '' END, ' & '
        )
        FROM unnest(
            CASE WHEN owner = '' THEN '{}' ELSE ARRAY[owner] END
            || CASE WHEN tag = '' THEN '{}' ELSE ARRAY['#' || tag] END
            || ARRAY(
                SELECT '.' || substr(part, 1 + number * greatest(length(part) - 3, 0) / greatest(most - 1, 1), 3)
                FROM (SELECT least(4, (length(part) + 2) / 3)) AS terms (most), generate_series(0, most - 1) AS number
            )
        ) AS term
    )::tsquery;
