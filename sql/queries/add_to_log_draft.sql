-- One array a column of `events`: $1 … $14.
insert into log_draft (position, job_id, version, attempt, event_id, type, source, trace_id, seq,
    occurred_at, recorded_at, rule, data, hash)
select * from unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::uuid[], $6::text[], $7::text[],
    $8::uuid[], $9::bigint[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::jsonb[],
    $14::bytea[])
