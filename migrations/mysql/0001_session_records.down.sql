DROP TABLE session_records;
