-- The browsers that somebody is signed in with, on every gateway that shares these records. Times are UTC microseconds.
CREATE TABLE sign_ins (
    -- The SHA-256 of the cookie's secret, in hex: who reads it here cannot make the cookie.
    digest        VARCHAR(64)   NOT NULL,
    username      VARCHAR(64)   NOT NULL,
    -- The SHA-256 of what the sign-in holds on to, in hex; and of what it will, while its own password is being changed.
    stamp         VARCHAR(64)   NOT NULL,
    next_stamp    VARCHAR(64),
    -- By what: a word.
    how           VARCHAR(32)   NOT NULL,
    -- The token that was traded for it, with which it ends.
    token_id      VARCHAR(64),
    client_ip     VARCHAR(45),
    user_agent    VARCHAR(256)  NOT NULL,
    made_at       BIGINT        NOT NULL,
    -- To within a minute or so.
    last_seen_at  BIGINT        NOT NULL,
    -- However much it is used.
    ends_at       BIGINT        NOT NULL,
    -- The people_version with which it was ended. The row stays for a day or two, so that every gateway finds what was ended since
    -- the version it knows, whatever it holds in memory.
    ended         BIGINT,
    PRIMARY KEY (digest),
    KEY idx_sign_ins_user (username, made_at),
    KEY idx_sign_ins_ended (ended),
    KEY idx_sign_ins_last_seen (last_seen_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
