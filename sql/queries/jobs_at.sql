-- $1 position, $2 status at it or null, $3 labels that must hold or null, $4 below this id or null,
-- $5 limit. The jobs that existed there, newest first; with the state of those that have not changed
-- since.
select j.id, case when j.position <= $1::bigint then j.state || j.pulse end as state
from jobs j
where j.first_position <= $1
    and ($2::text is null or $2 = (
        select status from job_spans where job_id = j.id and position <= $1
        order by position desc
        limit 1))
    and ($3::jsonb is null or j.labels @> $3)
    and ($4::bigint is null or j.id < $4)
order by j.id desc
limit $5
