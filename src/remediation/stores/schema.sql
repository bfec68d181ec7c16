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

CREATE INDEX rotation ON entry (seq) WHERE type = 'key.rotated';  -- found without a scan: the key is known before anything else

CREATE TABLE payload (                           -- the only erasable table
    seq  INTEGER PRIMARY KEY,
    salt BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE erasure (                           -- which entry says that a body was erased; an index, believed only with that entry
    seq INTEGER PRIMARY KEY,
    by  INTEGER NOT NULL
) STRICT;

CREATE TABLE archive (                           -- at most one row: entries before `before` were archived, as the entry `by` says
    before INTEGER PRIMARY KEY,
    by     INTEGER NOT NULL,
    state  BLOB    NOT NULL                      -- what is folded from them; its digest stands in that entry
) STRICT;

CREATE TABLE archived_stream (                   -- how long streams were when their entries were archived
    stream TEXT PRIMARY KEY,
    length INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

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

-- For reading by type, time and correlation; see stores/queries.py. The correlation stands in the leaf only, and is left out where the
-- stream's name is the same.
CREATE INDEX entry_type_time ON entry (type, time);
CREATE INDEX entry_correlation ON entry (CAST(substr(leaf, instr(leaf, x'2c22636f7272656c6174696f6e223a22') + 16, instr(leaf, x'222c226964223a22') - instr(leaf, x'2c22636f7272656c6174696f6e223a22') - 16) AS TEXT)) WHERE instr(leaf, x'2c22636f7272656c6174696f6e223a22') > 0 AND stream <> 'incident/' || replace(CAST(substr(leaf, instr(leaf, x'2c22636f7272656c6174696f6e223a22') + 16, instr(leaf, x'222c226964223a22') - instr(leaf, x'2c22636f7272656c6174696f6e223a22') - 16) AS TEXT), '-', '/');
