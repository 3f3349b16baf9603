-- What a user signs in with beside a password, and the link with which they set one. Each is one JSON text, written and read whole
-- together with its user: whoever takes a code or a link writes the user anew where it has not changed since, so that of two
-- gateways that take the same one at the same moment only one does.
--
-- The secret of the codes is sealed with a key that is not in here; of recovery codes and links there are digests only.
-- NULL: there is none.
ALTER TABLE users ADD COLUMN second_factor TEXT;
ALTER TABLE users ADD COLUMN invitation TEXT;
