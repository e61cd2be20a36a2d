-- $1 job ids
select id, state || pulse as state, clock_timestamp() as now from jobs where id = any ($1::bigint[])
