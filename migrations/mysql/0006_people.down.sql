DROP TABLE people_version;
DROP TABLE tokens;
DROP TABLE users;
