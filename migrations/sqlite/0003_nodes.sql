-- The gateways that have written here: their current epoch and lease. Times are UTC microseconds.
CREATE TABLE nodes (
    node_id        TEXT    NOT NULL PRIMARY KEY,
    -- Counts starts, from 1; never falls.
    epoch          INTEGER NOT NULL,
    -- When this epoch began.
    started_at     INTEGER NOT NULL,
    -- The newest renewal of the lease; the wall clock may jump back, this does not.
    last_alive_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
