ALTER TABLE users DROP COLUMN identity;
