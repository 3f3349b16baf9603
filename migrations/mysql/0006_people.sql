-- Who may sign in, and with what besides a password. Times are UTC microseconds.
CREATE TABLE users (
    name             VARCHAR(64)  NOT NULL,
    role             VARCHAR(16)  NOT NULL,
    -- A JSON list of texts.
    grants           MEDIUMTEXT   NOT NULL,
    disabled         BIGINT       NOT NULL,
    -- Argon2id in PHC form.
    password_hash    VARCHAR(255) NOT NULL,
    created_at       BIGINT       NOT NULL,
    -- Moves with every change.
    changed_at       BIGINT       NOT NULL,
    last_sign_in_at  BIGINT,
    PRIMARY KEY (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE tokens (
    token_id      VARCHAR(64)   NOT NULL,
    name          VARCHAR(128)  NOT NULL,
    username      VARCHAR(64)   NOT NULL,
    -- The SHA-256 of the secret, in hex.
    digest        VARCHAR(64)   NOT NULL,
    -- A JSON list of rights; NULL: all that the owner has.
    scopes        TEXT,
    created_at    BIGINT        NOT NULL,
    expires_at    BIGINT,
    last_used_at  BIGINT,
    PRIMARY KEY (token_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row, which counts the changes of both: every gateway looks at it to know whether it has to read anew.
CREATE TABLE people_version (
    id       BIGINT  NOT NULL,
    version  BIGINT  NOT NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO people_version (id, version) VALUES (1, 1);
