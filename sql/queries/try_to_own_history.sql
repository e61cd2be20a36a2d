-- $1 lock key. Nobody who reads the whole log is at it, and none begins until it is let go.
select pg_try_advisory_lock($1)
