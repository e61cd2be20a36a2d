-- $1 lock key. Until the session ends, nobody compacts what it reads; waits for who does just now.
select pg_advisory_lock_shared($1)
