-- Every job that the supervisor looks after, by who is served first; and how those stand that have
-- events after position $1, or all where the projections are not those of generation $2. A job that
-- was imported from another log lives there, if it still does.
with head as materialized (
    select position, generation from log_head
), watched as materialized (
    select
        jobs.id,
        (jobs.state ->> 'priority')::bigint as priority,
        case
            when jobs.position > $1 or head.generation <> $2 then jobs.state || jobs.pulse
        end as changed
    from jobs, head
    where jobs.watched and jobs.id is distinct from (select job_id from imports)
)
select
    (select position from head) as position,
    (select generation from head) as generation,
    clock_timestamp() as now,
    coalesce(array_agg(id order by priority desc, id), '{}') as ids,
    coalesce(jsonb_agg(changed) filter (where changed is not null), '[]') as changed
from watched
