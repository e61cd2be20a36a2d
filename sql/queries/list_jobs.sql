-- $1 status or null, $2 labels that must hold or null, $3 below this id or null, $4 limit
select state || pulse as state, clock_timestamp() as now
from jobs
where ($1::text is null or status = $1)
    and ($2::jsonb is null or labels @> $2)
    and ($3::bigint is null or id < $3)
order by id desc
limit $4
