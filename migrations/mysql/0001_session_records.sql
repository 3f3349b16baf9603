-- One row per session: the newest version of its whole record. Times are UTC microseconds.
--
-- Only what MySQL 8.0.16 and MariaDB 10.6 both understand: no partial index, no index on an expression, no CHECK.
-- The session id is the only unique key: with a second one, ON DUPLICATE KEY UPDATE could hit another session's row.
-- No foreign key anywhere: rows may come in any order, and Vitess and TiDB would not enforce it the same way.
--
-- Ids are UUIDv7, so new rows go to the right edge of the table. As text, 36 bytes instead of 16 in every index, so that a
-- person can read and search them and they sort as they do everywhere else.
-- All text has one collation, that of the session: values of two cannot always be compared. It compares code points
-- (the servers share no other that does not fold letters), so `Ann` is not `ann`; but `ann` and `ann ` are equal to it, so a
-- query that means exactly one of them compares the bytes as well. VARCHAR where CHAR would do: an expression over CHAR depends
-- on the session's sql_mode and is refused below.
CREATE TABLE session_records (
    session_id      CHAR(36)      NOT NULL,
    -- The owner and the circumstances of birth never change; the upsert leaves them alone, and their indexes with them.
    node_id         VARCHAR(255)  NOT NULL,
    epoch           BIGINT        NOT NULL,
    username        VARCHAR(255)  NOT NULL,
    -- Room for `login@host:port` with the longest host name there is; four bytes a character, an index may have 3,072.
    target_name     VARCHAR(512)  NOT NULL,
    client_ip       VARCHAR(45)   NOT NULL,
    start_time      BIGINT        NOT NULL,
    -- phase * 2^50 + authority * 2^48 + version: the only thing that decides which version of a record stays. Stored,
    -- not generated, because the upsert's guard reads it for each row and each column.
    rank_key        BIGINT        NOT NULL,
    version         BIGINT        NOT NULL,
    authority       TINYINT       NOT NULL,
    target_addr     VARCHAR(512)  NOT NULL,
    target_login    VARCHAR(255)  NOT NULL,
    status          VARCHAR(16)   NOT NULL,
    end_reason      VARCHAR(32),
    exit_status     BIGINT,
    last_seen_at    BIGINT,
    last_input_at   BIGINT,
    end_time        BIGINT,
    detected_at     BIGINT,
    bytes_in        BIGINT        NOT NULL,
    bytes_out       BIGINT        NOT NULL,
    recording       VARCHAR(1024),
    -- What a listing sorts by where the time may be unknown: unknown counts as oldest. A comparison with NULL is never
    -- true, so a keyset needs a number here.
    last_seen_key   BIGINT        GENERATED ALWAYS AS (coalesce(last_seen_at, -9223372036854775808)) STORED,
    end_key         BIGINT        GENERATED ALWAYS AS (coalesce(end_time, -9223372036854775808)) STORED,
    -- These stand in for the partial indexes that SQLite has: NULL once closed, or until then. The few open sessions are then
    -- one short range of an index, and what is written at each heartbeat touches no index at all. Queries must name
    -- the column: MariaDB does not find the index through the expression.
    -- Stored, 60 bytes a row, and not virtual: with an index on a virtual column MariaDB (10.11) now and then answers a
    -- query that sorts what it finds there with no rows at all, while it clears away deleted ones.
    active          TINYINT       GENERATED ALWAYS AS (if(status = 'closed', NULL, 1)) STORED,
    active_node     VARCHAR(255)  GENERATED ALWAYS AS (if(status = 'closed', NULL, node_id)) STORED,
    closed_seen_key BIGINT        GENERATED ALWAYS AS
        (if(status = 'closed', coalesce(last_seen_at, -9223372036854775808), NULL)) STORED,
    PRIMARY KEY (session_id),
    -- InnoDB appends the primary key to each index below: session_id is the tie-break of every listing, without a sort.

    -- Counting and cleaning by status and time.
    KEY idx_session_status_time (status, start_time, end_time),
    -- Open sessions by start, and, under NULL, closed ones by start: the list, and the history page with its time range. Not
    -- the index above, in which end_time stands between start_time and the tie-break.
    KEY idx_session_active_lookup (active, start_time),
    -- One node's open sessions by start: the orphans of its older epochs, oldest first, however many other nodes serve.
    KEY idx_session_active_node (active_node, start_time),
    -- Closed sessions by their other two times; an open session moves in them only when it closes.
    KEY idx_session_closed_last_seen (closed_seen_key),
    KEY idx_session_closed_end (active, end_key),
    -- One user's sessions (all that most users may see) and one target's. Their columns never change, so they cost only
    -- when a session is born.
    KEY idx_session_user (username, start_time),
    KEY idx_session_target (target_name, start_time)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
