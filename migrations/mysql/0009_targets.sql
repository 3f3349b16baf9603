-- Targets that were added while gateways ran, beside those of the configuration. Changes count in people_version, which every
-- gateway looks at already. Times are UTC microseconds.
CREATE TABLE targets (
    name        VARCHAR(64)   NOT NULL,
    host        VARCHAR(255)  NOT NULL,
    port        BIGINT        NOT NULL,
    -- The login name on the target.
    username    VARCHAR(128)  NOT NULL,
    group_name  VARCHAR(64),
    -- JSON lists of texts.
    tags        MEDIUMTEXT    NOT NULL,
    roles       TEXT          NOT NULL,
    -- prompt, agent, password or private_key.
    auth        VARCHAR(16)   NOT NULL,
    -- The password or key, sealed with a key that no database holds; bound to name, kind, login, host and port.
    sealed      MEDIUMTEXT,
    created_at  BIGINT        NOT NULL,
    -- Moves with every change.
    changed_at  BIGINT        NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
