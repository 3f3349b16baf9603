-- The browsers that somebody is signed in with, on every gateway that shares these records. Times are UTC microseconds.
CREATE TABLE sign_ins (
    -- The SHA-256 of the cookie's secret, in hex: who reads it here cannot make the cookie.
    digest        TEXT    NOT NULL PRIMARY KEY,
    username      TEXT    NOT NULL,
    -- The SHA-256 of what the sign-in holds on to, in hex; and of what it will, while its own password is being changed.
    stamp         TEXT    NOT NULL,
    next_stamp    TEXT,
    -- By what: a word.
    how           TEXT    NOT NULL,
    -- The token that was traded for it, with which it ends.
    token_id      TEXT,
    client_ip     TEXT,
    user_agent    TEXT    NOT NULL,
    made_at       INTEGER NOT NULL,
    -- To within a minute or so.
    last_seen_at  INTEGER NOT NULL,
    -- However much it is used.
    ends_at       INTEGER NOT NULL,
    -- The people_version with which it was ended. The row stays for a day or two, so that every gateway finds what was ended since
    -- the version it knows, whatever it holds in memory.
    ended         INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX idx_sign_ins_user ON sign_ins (username, made_at);
CREATE INDEX idx_sign_ins_ended ON sign_ins (ended) WHERE ended IS NOT NULL;
CREATE INDEX idx_sign_ins_last_seen ON sign_ins (last_seen_at);
