ALTER TABLE nodes DROP COLUMN incarnation;
