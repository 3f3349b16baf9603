DROP TABLE node_commands;
ALTER TABLE nodes DROP COLUMN serve_for;
ALTER TABLE nodes DROP COLUMN holder;
