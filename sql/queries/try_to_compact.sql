-- $1 lock key. Held until the session ends, in whatever way it ends.
select pg_try_advisory_lock($1)
