-- $1 job id, $2 after this version, $3 limit. What a further attempt can go on from: of all attempts, also
-- what did not count, and no heartbeat but those that end an epoch. The job's own bounds keep other ranges
-- from being read, and the one on the version keeps the planner from reading the positions of all jobs.
with job as materialized (
    select version, first_position, position from jobs where id = $1
)
select position, job_id, version, attempt, event_id, type, source, trace_id, seq, occurred_at,
    recorded_at, rule, data, hash
from events
where job_id = $1
    and version > $2 and version <= (select version from job)
    and position >= (select first_position from job)
    and position <= (select position from job)
    and case type
        when 'trainer_event' then data ->> 'type' in (
            'epoch_end', 'checkpoint_saved', 'checkpoint_damaged', 'resume_failed', 'tracking_started'
        )
        when 'done' then data ? 'mlflow_run_id'
        when 'heartbeat' then data ? 'metrics' and data ? 'epoch' and not data ? 'batch'
        when 'heartbeats' then data ? 'metrics' and data ? 'epoch' and not data ? 'batch'
        else false
    end
order by version
limit $3
