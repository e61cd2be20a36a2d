-- $1 job ids
select id, hash, state || pulse as state from jobs_rebuilt where id = any ($1::bigint[])
