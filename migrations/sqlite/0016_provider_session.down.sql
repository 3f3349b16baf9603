DROP INDEX idx_sign_ins_session;

ALTER TABLE sign_ins DROP COLUMN provider_session;
