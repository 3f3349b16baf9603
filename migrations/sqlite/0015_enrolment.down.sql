ALTER TABLE users DROP COLUMN enrolment;
