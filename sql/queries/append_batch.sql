-- The one statement that writes to the log. $1 where the writer believes the log to end; then how
-- the head is to be: $2 position, $3 job id, $4 time, $5 counts; then one array a column:
-- $6 … $19 events, $20 … $30 jobs, $31 … $40 spans; and $41 the generation of the projections.
-- Answers 1, or 0 where the log ends elsewhere or was rebuilt: then nothing was written.
with head as (
    update log_head set position = $2, job_id = $3, recorded_at = $4, counts = $5
    where position = $1 and generation = $41
    returning position
),
-- Known ids end the statement before anything large is written.
ids as (
    insert into event_ids (job_id, event_id, position, version, attempt, seq)
    select job_id, event_id, position, version, attempt, seq
    from unnest($6::bigint[], $7::bigint[], $8::bigint[], $9::integer[], $10::uuid[], $14::bigint[])
        as event (position, job_id, version, attempt, event_id, seq)
    where exists (select from head)
),
written as (
    insert into events (position, job_id, version, attempt, event_id, type, source, trace_id, seq,
        occurred_at, recorded_at, rule, data, hash)
    select * from unnest(
        $6::bigint[], $7::bigint[], $8::bigint[], $9::integer[], $10::uuid[], $11::text[],
        $12::text[], $13::uuid[], $14::bigint[], $15::timestamptz[], $16::timestamptz[],
        $17::text[], $18::jsonb[], $19::bytea[])
    where exists (select from head)
),
saved as (
    insert into jobs (id, version, position, hash, status, watched, labels, idempotency_key, state,
        first_position, final_position)
    select * from unnest(
        $20::bigint[], $21::bigint[], $22::bigint[], $23::bytea[], $24::text[], $25::boolean[],
        $26::jsonb[], $27::text[], $28::jsonb[], $29::bigint[], $30::bigint[])
    where exists (select from head)
    on conflict (id) do update set
        version = excluded.version,
        position = excluded.position,
        hash = excluded.hash,
        status = excluded.status,
        watched = excluded.watched,
        state = excluded.state,
        final_position = coalesce(jobs.final_position, excluded.final_position)
),
spans as (
    insert into job_spans (position, job_id, version, recorded_at, status, attempt, verdict,
        reason_code, reason_message, counts)
    select * from unnest(
        $31::bigint[], $32::bigint[], $33::bigint[], $34::timestamptz[], $35::text[],
        $36::integer[], $37::text[], $38::text[], $39::text[], $40::jsonb[])
    where exists (select from head)
)
select count(*) from head
