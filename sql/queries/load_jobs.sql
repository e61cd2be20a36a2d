-- $1 job ids
select id, hash, state from jobs where id = any ($1::bigint[])
