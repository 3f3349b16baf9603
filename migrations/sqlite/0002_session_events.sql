-- The history of each session: one row per transition, never changed. Times are UTC microseconds.
--
-- event_id is the rowid, so rows lie in the order of arrival and every reader of "what came since" has a number to
-- resume from.
CREATE TABLE session_events (
    event_id    INTEGER NOT NULL PRIMARY KEY,
    session_id  TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    -- Two authors (the owner, and a node that thought it dead) may both write version n: both transitions stay.
    rank_key    INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    end_reason  TEXT,
    detail      TEXT    NOT NULL
) STRICT;

-- Makes a repeated write harmless, and reads one session's history in its order. No foreign key: a transition may be
-- written in any order with its record.
CREATE UNIQUE INDEX idx_event_once ON session_events (session_id, version, rank_key);
