-- $1 lock key. Held until unlock_migrations or the end of the session.
select pg_advisory_lock($1)
