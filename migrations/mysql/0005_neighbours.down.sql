DROP TABLE node_commands;
ALTER TABLE nodes DROP COLUMN serve_for, DROP COLUMN holder;
