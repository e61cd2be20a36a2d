-- $1 position; $2 job ids, $3 versions up to which to look, $4 attempts and $5 first positions, side by
-- side. For each of these jobs the attempt's last callback that counted (`said`), the last before it
-- that named an epoch (`named`, where `said` does not), and the last of the earlier attempts that did
-- (`before`). They are looked for among twenty. A range of versions always has both ends: with one of
-- them open, the planner would rather read the positions of all jobs.
with asked as (
    select
        a.job_id,
        a.version,
        a.attempt,
        a.first_position,
        case when a.attempt = 1 then 1 else (
            select version from job_spans where job_id = a.job_id and attempt = a.attempt
            order by position
            limit 1
        ) end as began
    from unnest($2::bigint[], $3::bigint[], $4::integer[], $5::bigint[])
        as a (job_id, version, attempt, first_position)
)
select
    a.job_id,
    said.recorded_at as alive_at,
    said.type as said_type,
    said.data as said,
    named.type as named_type,
    named.data as named,
    before.type as before_type,
    before.data as before
from asked a
left join lateral (
    select
        version, recorded_at, type, data,
        case type when 'trainer_event' then data ->> 'type' = 'epoch_end' else data ? 'epoch' end
            as names_epoch
    from events
    where job_id = a.job_id
        and version >= a.began and version <= a.version
        and position >= a.first_position and position <= $1
        and rule is null
        and attempt = a.attempt
        and type in ('heartbeat', 'heartbeats', 'trainer_event', 'done')
    order by version desc
    limit 1
) said on true
left join lateral (
    select type, data
    from (
        select type, data from events
        where not said.names_epoch
            and job_id = a.job_id
            and version >= a.began and version < said.version
            and position >= a.first_position and position <= $1
            and rule is null
            and attempt = a.attempt
            and type in ('heartbeat', 'heartbeats', 'trainer_event')
        order by version desc
        limit 20
    ) few
    where case type when 'trainer_event' then data ->> 'type' = 'epoch_end' else data ? 'epoch' end
    limit 1
) named on true
left join lateral (
    select type, data
    from (
        select type, data from events
        where a.attempt > 1
            and job_id = a.job_id
            and version >= 1 and version < a.began
            and position >= a.first_position and position <= $1
            and rule is null
            and type in ('heartbeat', 'heartbeats', 'trainer_event')
        order by version desc
        limit 20
    ) few
    where case type when 'trainer_event' then data ->> 'type' = 'epoch_end' else data ? 'epoch' end
    limit 1
) before on true
