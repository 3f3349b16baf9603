ALTER TABLE users DROP COLUMN invitation, DROP COLUMN second_factor;
