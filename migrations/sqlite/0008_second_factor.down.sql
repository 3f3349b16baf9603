ALTER TABLE users DROP COLUMN invitation;
ALTER TABLE users DROP COLUMN second_factor;
