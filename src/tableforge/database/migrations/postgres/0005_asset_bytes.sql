-- Where the bytes of a picture lie in a fleet: one row for each digest (sha256, hex) that is whole. `blob` is the name of
-- its copy in the store; a name is never used twice, so that taking a copy away cannot hit one that was made since.
-- `claim` is the id of the upload that brought them while it was the only one, then empty; `touched` is when the last one
-- came, by the database's clock.
CREATE TABLE asset_bytes (
    digest text NOT NULL PRIMARY KEY,
    blob text NOT NULL UNIQUE,
    bytes bigint NOT NULL,
    thumbnail_bytes bigint NOT NULL,
    thumbnail_digest text NOT NULL,
    claim text NOT NULL,
    touched timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX asset_bytes_touched ON asset_bytes (touched);

-- The copies themselves, where no other store is set. Pictures do not compress, so nobody tries.
CREATE TABLE asset_chunks (
    blob text NOT NULL,
    part integer NOT NULL,
    data bytea NOT NULL,
    written timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (blob, part)
);
ALTER TABLE asset_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
