-- $1 … $10: one array a column of job_spans.
insert into job_spans (position, job_id, version, recorded_at, status, attempt, verdict,
    reason_code, reason_message, counts)
select * from unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::text[],
    $6::integer[], $7::text[], $8::text[], $9::text[], $10::jsonb[])
