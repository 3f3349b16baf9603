-- Who a user is at an OpenID Connect provider: one JSON text, written and read whole together with its user. `issuer` and `subject`
-- together name a person there for good, which no name and no address does; `admitted` tells whether the groups they had at
-- their last sign-in let them in.
--
-- NULL: they sign in with a password of their own.
ALTER TABLE users ADD COLUMN identity TEXT;
