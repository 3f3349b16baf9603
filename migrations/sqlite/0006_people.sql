-- Who may sign in, and with what besides a password. Times are UTC microseconds.
CREATE TABLE users (
    name             TEXT    NOT NULL PRIMARY KEY,
    role             TEXT    NOT NULL,
    -- A JSON list of texts.
    grants           TEXT    NOT NULL,
    disabled         INTEGER NOT NULL,
    -- Argon2id in PHC form.
    password_hash    TEXT    NOT NULL,
    created_at       INTEGER NOT NULL,
    -- Moves with every change.
    changed_at       INTEGER NOT NULL,
    last_sign_in_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    token_id      TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    username      TEXT    NOT NULL,
    -- The SHA-256 of the secret, in hex.
    digest        TEXT    NOT NULL,
    -- A JSON list of rights; NULL: all that the owner has.
    scopes        TEXT,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER,
    last_used_at  INTEGER
) STRICT, WITHOUT ROWID;

-- One row, which counts the changes of both: every gateway looks at it to know whether it has to read anew.
CREATE TABLE people_version (
    id       INTEGER NOT NULL PRIMARY KEY,
    version  INTEGER NOT NULL
) STRICT;

INSERT INTO people_version (id, version) VALUES (1, 1);
