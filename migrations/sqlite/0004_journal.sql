-- What makes this file a journal: a history that cannot be altered unnoticed, and a list of what another store has yet to be
-- told.

-- The chain: each event's hash covers the hash before it, by event_id, so that an edit, a deletion or a reordering shows.
-- NULL for what was written before this step; the chain begins with the first event that has one.
ALTER TABLE session_events ADD COLUMN chain_hash BLOB;

-- Which start of the node renews its lease: a data directory that was copied serves under the same name and epoch, and only
-- this tells the two apart. Empty for what began before this step.
ALTER TABLE nodes ADD COLUMN incarnation TEXT NOT NULL DEFAULT '';

-- Sessions whose newest record the records may not have, one row each however often they change. Empty while this file is
-- itself the record store.
CREATE TABLE outbox (
    session_id   TEXT    NOT NULL PRIMARY KEY,
    -- The highest rank noted; taken out once the records have this one.
    rank_key     INTEGER NOT NULL,
    -- The first event the records may not have; NULL if only activity moved.
    first_event  INTEGER
) STRICT, WITHOUT ROWID;
