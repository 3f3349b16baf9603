-- How far each webhook of this node was told of its audit log, and what it was not told: that stays in the log all the same.
CREATE TABLE webhooks (
    name     TEXT    NOT NULL PRIMARY KEY,
    -- The number of the last entry it was told, or was not to be.
    position INTEGER NOT NULL
) STRICT;

CREATE TABLE webhook_dead_letters (
    webhook TEXT    NOT NULL,
    -- The numbers of the first and last entry.
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    error   TEXT    NOT NULL,
    PRIMARY KEY (webhook, first)
) STRICT;
