-- $1 … $14: one array a column of events.
with ids as (
    insert into event_ids (job_id, event_id, position, version, attempt, seq)
    select job_id, event_id, position, version, attempt, seq
    from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::uuid[], $9::bigint[])
        as event (position, job_id, version, attempt, event_id, seq)
)
insert into events (position, job_id, version, attempt, event_id, type, source, trace_id, seq,
    occurred_at, recorded_at, rule, data, hash)
select * from unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::uuid[], $6::text[],
    $7::text[], $8::uuid[], $9::bigint[], $10::timestamptz[], $11::timestamptz[],
    $12::text[], $13::jsonb[], $14::bytea[])
