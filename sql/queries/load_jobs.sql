-- $1 job ids
select id, hash, state || pulse as state from jobs where id = any ($1::bigint[])
