-- One row per session: the newest version of its whole record. Times are UTC microseconds.
--
-- STRICT: without it SQLite stores text in an INTEGER column and the mistake is found when it is read.
-- WITHOUT ROWID: the session id is the only key, so the table is the key's own b-tree; ids are UUIDv7, so new rows
-- go to its right edge. Every index below ends with session_id by itself, which is the tie-break of every listing.
-- The id is text, 36 bytes instead of 16, so that a person can read and search it.
CREATE TABLE session_records (
    session_id     TEXT    NOT NULL PRIMARY KEY,
    -- The owner and the circumstances of birth never change; the upsert leaves them alone, and their indexes with them.
    node_id        TEXT    NOT NULL,
    epoch          INTEGER NOT NULL,
    username       TEXT    NOT NULL,
    target_name    TEXT    NOT NULL,
    client_ip      TEXT    NOT NULL,
    start_time     INTEGER NOT NULL,
    -- phase * 2^50 + authority * 2^48 + version: the only thing that decides which version of a record stays. Stored,
    -- not generated, because the upsert's guard reads it for each row.
    rank_key       INTEGER NOT NULL,
    version        INTEGER NOT NULL,
    authority      INTEGER NOT NULL,
    target_addr    TEXT    NOT NULL,
    target_login   TEXT    NOT NULL,
    status         TEXT    NOT NULL,
    end_reason     TEXT,
    exit_status    INTEGER,
    last_seen_at   INTEGER,
    last_input_at  INTEGER,
    end_time       INTEGER,
    detected_at    INTEGER,
    bytes_in       INTEGER NOT NULL,
    bytes_out      INTEGER NOT NULL,
    recording      TEXT,
    -- What a listing sorts by where the time may be unknown: unknown counts as oldest. A row-value comparison with NULL
    -- is never true, so a keyset needs a number here. Virtual: the value lives in the index only. A column and not an
    -- expression, because MariaDB finds an index only through the column's name and the names are to be the same.
    last_seen_key  INTEGER NOT NULL GENERATED ALWAYS AS (coalesce(last_seen_at, -9223372036854775808)) VIRTUAL,
    end_key        INTEGER NOT NULL GENERATED ALWAYS AS (coalesce(end_time, -9223372036854775808)) VIRTUAL
) STRICT, WITHOUT ROWID;

-- Each index below costs at every heartbeat's checkpoint unless it can be left alone, and SQLite leaves alone only what
-- no assigned column touches. So closed sessions (millions, written once) and open ones (thousands, written often) have
-- indexes of their own, and a listing of both is the merge of two short ranges.

-- Closed sessions by start: the history page and its time range. Whole, not partial: counting by status reads it too.
CREATE INDEX idx_session_status_time ON session_records (status, start_time, end_time);

-- Closed sessions by their other two times. Partial: an open session enters them only when it closes.
CREATE INDEX idx_session_closed_last_seen ON session_records (last_seen_key) WHERE status = 'closed';
CREATE INDEX idx_session_closed_end ON session_records (end_key) WHERE status = 'closed';

-- Open sessions by start, both for their list and for the orphans of older epochs, oldest first. Not led by node: this
-- file belongs to one node, so the node selects nothing. No further columns: without a rowid SQLite reads the row before
-- it filters, so they would only make every entry longer. The other two orders sort the open sessions, at most as many
-- as one node serves.
CREATE INDEX idx_session_active_lookup ON session_records (start_time) WHERE status <> 'closed';

-- One user's sessions (all that most users may see) and one target's. Their columns never change, so they cost only
-- when a session is born.
CREATE INDEX idx_session_user ON session_records (username, start_time);
CREATE INDEX idx_session_target ON session_records (target_name, start_time);
