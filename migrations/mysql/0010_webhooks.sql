-- Each gateway tells webhooks of its own audit log, from its own journal: nothing to do here but to keep the numbers of the
-- steps alike.
DO 0;
