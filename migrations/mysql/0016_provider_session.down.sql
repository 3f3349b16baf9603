-- With the column goes its index.
ALTER TABLE sign_ins DROP COLUMN provider_session;
