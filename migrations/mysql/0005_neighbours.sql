-- What several gateways on one record store need to know of each other.

-- Who writes under the node's name: 'held' by the incarnation, 'left' in order, or 'fenced': taken away after a long silence.
-- Whoever fences also takes the next epoch, so that a release which does not know this column is refused as well.
ALTER TABLE nodes
    ADD COLUMN holder     VARCHAR(8)  NOT NULL DEFAULT 'held',
    -- How long the node may serve without renewing its lease, in microseconds, as it told itself; nobody may fence it
    -- sooner. A day for what began before this step: the longest that such a release could be set to serve by default.
    ADD COLUMN serve_for  BIGINT      NOT NULL DEFAULT 86400000000;

-- What other gateways ask of a node while the live view cannot carry it: one row per session that is to end, gone once read.
CREATE TABLE node_commands (
    command_id  CHAR(36)      NOT NULL,
    node_id     VARCHAR(255)  NOT NULL,
    session_id  CHAR(36)      NOT NULL,
    end_reason  VARCHAR(32)   NOT NULL,
    detail      TEXT          NOT NULL,
    sent_at     BIGINT        NOT NULL,
    PRIMARY KEY (command_id),
    KEY idx_node_commands_node (node_id, command_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
