-- What several gateways on one record store need to know of each other.

-- Who writes under the node's name: 'held' by the incarnation, 'left' in order, or 'fenced': taken away after a long silence.
-- Whoever fences also takes the next epoch, so that a release which does not know this column is refused as well.
ALTER TABLE nodes ADD COLUMN holder TEXT NOT NULL DEFAULT 'held';

-- How long the node may serve without renewing its lease, in microseconds, as it told itself; nobody may fence it sooner.
-- A day for what began before this step: the longest that such a release could be set to serve by default.
ALTER TABLE nodes ADD COLUMN serve_for INTEGER NOT NULL DEFAULT 86400000000;

-- What other gateways ask of a node while the live view cannot carry it: one row per session that is to end, gone once read.
CREATE TABLE node_commands (
    command_id  TEXT    NOT NULL PRIMARY KEY,
    node_id     TEXT    NOT NULL,
    session_id  TEXT    NOT NULL,
    end_reason  TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    sent_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX idx_node_commands_node ON node_commands (node_id, command_id);
