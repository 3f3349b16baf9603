-- The second factor that a user is turning on: its secret, sealed as in second_factor, until a code of it confirms it on whichever
-- gateway. One JSON text, written and read whole together with its user. NULL: there is none.
ALTER TABLE users ADD COLUMN enrolment TEXT;
