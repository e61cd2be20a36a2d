-- $1 up to this position. What a fold needs to come to each job's status, and no more: every event that
-- can decide or set aside, and between two of them the first callback that counts, for only the first
-- can make an attempt run. Then, of each job, where its log ends. In version order for each job.
-- The versions bound what an index has to be read for, the positions in which ranges of the log.
with facts as materialized (
    select position, job_id, version, attempt, type, recorded_at, rule, data,
        lead(position, 1, $1 + 1) over job as next_position,
        lead(version) over job as next_version
    from events
    where position <= $1
        and type not in ('heartbeat', 'heartbeats', 'trainer_event', 'evidence', 'token_issued')
    window job as (partition by job_id order by version)
)
select position, job_id, version, attempt, type, recorded_at, data
from facts
union all
select called.position, facts.job_id, called.version, called.attempt, called.type,
    called.recorded_at, null
from facts
cross join lateral (
    select position, version, attempt, type, recorded_at
    from events
    where job_id = facts.job_id
        and version > facts.version
        and version < coalesce(facts.next_version, 9223372036854775807)
        and position > facts.position
        and position < facts.next_position
        and rule is null
        and type in ('heartbeat', 'heartbeats', 'trainer_event')
    order by version
    limit 1
) called
where facts.rule is not null or facts.type not in ('done', 'succeeded', 'failed', 'cancelled')
union all
select ended.position, facts.job_id, ended.version, 0, 'end', null, null
from facts
cross join lateral (
    select position, version
    from events
    where job_id = facts.job_id
        and version >= facts.version
        and position >= facts.position
        and position <= $1
    order by version desc
    limit 1
) ended
where facts.next_version is null
order by job_id, version, attempt desc
