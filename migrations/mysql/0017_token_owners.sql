-- Whose tokens they are, for whoever is removed or comes back under the name of somebody who was.
CREATE INDEX idx_tokens_user ON tokens (username);
