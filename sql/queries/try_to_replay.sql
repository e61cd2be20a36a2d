-- $1 lock key. Held until the session ends: one replay of a log at a time.
select pg_try_advisory_lock($1)
