-- The history of each session: one row per transition, never changed. Times are UTC microseconds.
--
-- The key makes a repeated write harmless, and is the order in which one session's history is read. Not led by a number of
-- arrival as in a node's own journal: that would be a second unique key, or a counter that every writer waits for, and
-- nobody reads these rows in the order of arrival.
CREATE TABLE session_events (
    session_id  CHAR(36)      NOT NULL,
    version     BIGINT        NOT NULL,
    -- Two authors (the owner, and a node that thought it dead) may both write version n: both transitions stay.
    rank_key    BIGINT        NOT NULL,
    at          BIGINT        NOT NULL,
    status      VARCHAR(16)   NOT NULL,
    end_reason  VARCHAR(32),
    detail      TEXT          NOT NULL,
    PRIMARY KEY (session_id, version, rank_key)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
