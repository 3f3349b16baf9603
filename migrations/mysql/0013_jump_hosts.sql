-- The jump hosts that a target of the records names itself, the first one first: a JSON list of texts, each the name of a target,
-- of the records or of the configuration, or a place, login@host:port. What lies before the first is that one's own. Nothing
-- here holds that a name is a target's: the configuration is in no table.
ALTER TABLE targets ADD COLUMN via VARCHAR(4096) NOT NULL DEFAULT '[]';
