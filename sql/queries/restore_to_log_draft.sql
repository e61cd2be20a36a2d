-- $1 lines of an archive, as archive_page wrote them.
insert into log_draft (position, job_id, version, attempt, event_id, type, source, trace_id, seq,
    occurred_at, recorded_at, rule, data, hash)
select
    (said ->> 'position')::bigint, (said ->> 'job_id')::bigint, (said ->> 'version')::bigint,
    (said ->> 'attempt')::integer, (said ->> 'event_id')::uuid, said ->> 'type', said ->> 'source',
    (said ->> 'trace_id')::uuid, (said ->> 'seq')::bigint, (said ->> 'occurred_at')::timestamptz,
    (said ->> 'recorded_at')::timestamptz, said ->> 'rule', said -> 'data',
    decode(said ->> 'hash', 'hex')
from unnest($1::text[]) as line
cross join lateral (select line::jsonb as said) as parsed
