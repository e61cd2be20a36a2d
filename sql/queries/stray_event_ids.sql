-- $1 job id, $2 up to this position, $3 limit. Ids that are kept though no such event stands there,
-- nor a roll-up that stands for it.
select kept.version, kept.position, kept.event_id
from event_ids kept
where kept.job_id = $1
    and kept.position <= $2
    and not exists (
        select from events event
        where event.position = kept.position
            and event.job_id = kept.job_id
            and event.event_id = kept.event_id)
    and not exists (
        select from events roll_up
        where roll_up.job_id = kept.job_id
            and roll_up.type = 'heartbeats'
            and kept.version < roll_up.version
            and kept.version >= case
                when jsonb_typeof(roll_up.data -> 'from_version') = 'number'
                then (roll_up.data ->> 'from_version')::numeric end)
order by kept.position
limit $3
