-- $1 lock key
select pg_advisory_unlock($1)
