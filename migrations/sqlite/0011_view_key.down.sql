DROP TABLE view_key;
