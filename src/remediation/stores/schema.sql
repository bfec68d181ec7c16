-- The journal, format v1 (docs/specs/journal-format-v1.md). Times are text and order nothing; seq does.

CREATE TABLE entry (
    seq        INTEGER PRIMARY KEY,              -- position in the log, from 0 without gaps
    event_id   TEXT    NOT NULL UNIQUE,
    stream     TEXT    NOT NULL,
    stream_seq INTEGER NOT NULL,                 -- position in the stream, from 0 without gaps
    type       TEXT    NOT NULL,
    time       TEXT    NOT NULL,
    leaf       BLOB    NOT NULL,                 -- canonical JSON; what the tree hashes. The columns above repeat it
    UNIQUE (stream, stream_seq)
) STRICT;

CREATE TABLE payload (                           -- the only erasable table
    seq  INTEGER PRIMARY KEY,
    salt BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE erasure (                           -- which entry says that a body was erased; an index, believed only with that entry
    seq INTEGER PRIMARY KEY,
    by  INTEGER NOT NULL
) STRICT;

CREATE TABLE checkpoint (                        -- signed tree heads; superseded ones are thinned
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;

CREATE TABLE tile (                              -- C2SP tlog-tiles geometry
    level INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    data  BLOB    NOT NULL,
    PRIMARY KEY (level, n)
) STRICT, WITHOUT ROWID;
