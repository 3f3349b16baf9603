-- What seals the words of several gateways to each other in a live view, which others may be able to write to. One row, made
-- by the first that needs it and never changed: whoever reads the records may read the key, since the records are the truth
-- that a live view only repeats.
CREATE TABLE view_key (
    only_one  TINYINT     NOT NULL,
    secret    BINARY(32)  NOT NULL,
    PRIMARY KEY (only_one),
    CONSTRAINT view_key_is_one CHECK (only_one = 1)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
