-- $1 channel, $2 where the log ends. Tells every replica.
select pg_notify($1, $2)
