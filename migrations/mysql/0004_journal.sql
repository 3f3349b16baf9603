-- What a node's own journal needs has its place there: here only the lease learns who holds it.

-- Which start of the node renews its lease: a data directory that was copied serves under the same name and epoch, and only
-- this tells the two apart. Empty for what began before this step, and for a release that does not know the column.
ALTER TABLE nodes ADD COLUMN incarnation VARCHAR(64) NOT NULL DEFAULT '';
