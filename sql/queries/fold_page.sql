-- $1 job id, $2 after this version, $3 up to this position, $4 how many events to look at. What a fold
-- looks at in them, a list a column: as rows it would take longer to send and to decode. The job's own
-- bounds keep other ranges from being read, and the one on the version keeps the planner from reading
-- the positions of all jobs.
with job as materialized (
    select version, first_position, position from jobs where id = $1
)
select
    array_agg(position) as positions,
    array_agg(version) as versions,
    array_agg(attempt) as attempts,
    array_agg(type) as types,
    array_agg(recorded_at) as times,
    json_agg(data)::text as data,
    max(trace_id::text) filter (where type = 'created') as trace_id
from (
    select position, version, attempt, type, trace_id, recorded_at, data
    from events
    where job_id = $1
        and version > $2 and version <= (select version from job)
        and position >= (select first_position from job)
        and position <= (select position from job)
    order by version
    limit $4
) page
where position <= $3
having count(*) > 0
