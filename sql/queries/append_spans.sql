-- In the transaction of append_batch, where a batch makes jobs or changes where they stand: one array
-- a column, $1 … $12 new jobs, $13 … $22 spans.
with made as (
    insert into jobs (id, version, position, hash, status, watched, labels, idempotency_key, state,
        first_position, final_position, pulse)
    select * from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::text[], $6::boolean[],
        $7::jsonb[], $8::text[], $9::jsonb[], $10::bigint[], $11::bigint[], $12::jsonb[])
)
insert into job_spans (position, job_id, version, recorded_at, status, attempt, verdict,
    reason_code, reason_message, counts)
select * from unnest(
    $13::bigint[], $14::bigint[], $15::bigint[], $16::timestamptz[], $17::text[],
    $18::integer[], $19::text[], $20::text[], $21::text[], $22::jsonb[])
