-- On which sign-in at an OpenID Connect provider this one stands, and with which it ends: the SHA-256, in hex, of the name that the
-- provider has for that. NULL: there is none, or it is not known.
ALTER TABLE sign_ins
    ADD COLUMN provider_session VARCHAR(64) NULL,
    ADD KEY idx_sign_ins_session (provider_session);
