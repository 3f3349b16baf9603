-- Targets that were added while gateways ran, beside those of the configuration. Changes count in people_version, which every
-- gateway looks at already. Times are UTC microseconds.
CREATE TABLE targets (
    name        TEXT    NOT NULL PRIMARY KEY,
    host        TEXT    NOT NULL,
    port        INTEGER NOT NULL,
    -- The login name on the target.
    username    TEXT    NOT NULL,
    group_name  TEXT,
    -- JSON lists of texts.
    tags        TEXT    NOT NULL,
    roles       TEXT    NOT NULL,
    -- prompt, agent, password or private_key.
    auth        TEXT    NOT NULL,
    -- The password or key, sealed with a key that no database holds; bound to name, kind, login, host and port.
    sealed      TEXT,
    created_at  INTEGER NOT NULL,
    -- Moves with every change.
    changed_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
