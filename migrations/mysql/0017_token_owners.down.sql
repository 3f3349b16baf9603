DROP INDEX idx_tokens_user ON tokens;
