-- Who did what, from where, to whom, and whether it was let happen: one row per act, never changed. Times are UTC microseconds.
--
-- A log of its own and not rows of session_events: those go once their sessions have retired, and their chain is shortened at
-- its beginning; what is kept here stays. So that every row of it is needed for the chain, the first link follows nothing.
--
-- AUTOINCREMENT, although the number is always given: SQLite notes the highest one beside the table, so that a log whose last
-- rows were taken away goes on behind the gap and shows it for ever.
CREATE TABLE audit_log (
    sequence    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    -- Empty where the gateway itself acted.
    actor       TEXT    NOT NULL,
    -- Empty where there was none.
    client_ip   TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    -- Covers the hash before it and every column of the row.
    chain_hash  BLOB    NOT NULL
) STRICT;

-- What one person did, and where one thing was done; newest first by the rowid that each index ends with.
CREATE INDEX idx_audit_actor ON audit_log (actor);
CREATE INDEX idx_audit_action ON audit_log (action);
