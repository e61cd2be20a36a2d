-- $1 after this position, $2 before this one, $3 limit. Events as lines of JSON, written by PostgreSQL
-- itself so that no number loses a digit on its way into the archive and back.
select
    event.position,
    event.job_id,
    event.recorded_at,
    (
        select row_to_json(line)::text
        from (
            select
                event.position, event.job_id, event.version, event.attempt, event.event_id,
                event.type, event.source, event.trace_id, event.seq,
                to_char(event.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                    as occurred_at,
                to_char(event.recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                    as recorded_at,
                event.rule, event.data, encode(event.hash, 'hex') as hash
        ) line
    ) as line
from events event
where event.position > $1 and event.position < $2
order by event.position
limit $3
