-- $1 job id
select state || pulse as state, clock_timestamp() as now from jobs where id = $1
