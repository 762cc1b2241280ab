-- Who owns rows: a tenant's text, or `-`. Feed and fence live here because both only grow.
CREATE TABLE scope (
    id    INTEGER PRIMARY KEY,
    name  TEXT    NOT NULL UNIQUE,
    feed  INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE event (
    scope   INTEGER NOT NULL REFERENCES scope (id),
    feed    INTEGER NOT NULL,
    stream  TEXT    NOT NULL,
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL, -- microseconds, as every time here
    value   BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX event_by_feed ON event (scope, feed);
CREATE UNIQUE INDEX event_by_stream ON event (scope, stream, version);

CREATE TABLE record (
    scope   INTEGER NOT NULL REFERENCES scope (id),
    kind    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    version INTEGER NOT NULL,
    value   BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX record_by_key ON record (scope, kind, id);

CREATE TABLE lease (
    scope  INTEGER NOT NULL REFERENCES scope (id),
    name   TEXT    NOT NULL,
    holder TEXT    NOT NULL,
    fence  INTEGER NOT NULL,
    until  INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE timer (
    scope INTEGER NOT NULL REFERENCES scope (id),
    name  TEXT    NOT NULL,
    at    INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX timer_by_time ON timer (at, scope, name);

CREATE TABLE blob (
    scope  INTEGER NOT NULL REFERENCES scope (id),
    digest BLOB    NOT NULL,
    body   BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX blob_by_digest ON blob (scope, digest);
