DROP TABLE outbox;
ALTER TABLE nodes DROP COLUMN incarnation;
ALTER TABLE session_events DROP COLUMN chain_hash;
