-- The gateways that have written here: their current epoch and lease. Times are UTC microseconds.
CREATE TABLE nodes (
    node_id        VARCHAR(255)  NOT NULL,
    -- Counts starts, from 1; never falls.
    epoch          BIGINT        NOT NULL,
    -- When this epoch began.
    started_at     BIGINT        NOT NULL,
    -- The newest renewal of the lease; the wall clock may jump back, this does not.
    last_alive_at  BIGINT        NOT NULL,
    PRIMARY KEY (node_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
