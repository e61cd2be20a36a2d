-- $1 … $13: one array a column.
insert into floor_events (job_id, version, attempt, event_id, type, source, trace_id, seq,
    occurred_at, recorded_at, rule, data, hash)
select *
from unnest($1::bigint[], $2::bigint[], $3::integer[], $4::uuid[], $5::text[], $6::text[],
    $7::uuid[], $8::bigint[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::jsonb[],
    $13::bytea[])
