-- What seals the words of several gateways to each other in a live view, which others may be able to write to. One row, made
-- by the first that needs it and never changed: whoever reads the records may read the key, since the records are the truth
-- that a live view only repeats.
CREATE TABLE view_key (
    only_one  INTEGER  NOT NULL PRIMARY KEY CHECK (only_one = 1),
    secret    BLOB     NOT NULL CHECK (length(secret) = 32)
) STRICT;
