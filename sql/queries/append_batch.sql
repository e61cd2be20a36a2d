-- The one statement that writes to the log. $1 where the writer believes the log to end; then how
-- the head is to be: $2 position, $3 job id, $4 time, $5 counts; then one array a column:
-- $6 … $19 events, $20 … $31 new jobs, $32 … $40 jobs that went on (without a state where
-- only their pulse changed), $41 … $50 spans; and $51 the generation of the projections.
-- Answers the time, and 1, or 0 where the log ends elsewhere or was rebuilt: then nothing was
-- written.
with head as (
    update log_head set position = $2, job_id = $3, recorded_at = $4, counts = $5
    where position = $1 and generation = $51
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
made as (
    insert into jobs (id, version, position, hash, status, watched, labels, idempotency_key, state,
        first_position, final_position, pulse)
    select * from unnest(
        $20::bigint[], $21::bigint[], $22::bigint[], $23::bytea[], $24::text[], $25::boolean[],
        $26::jsonb[], $27::text[], $28::jsonb[], $29::bigint[], $30::bigint[], $31::jsonb[])
    where exists (select from head)
),
moved as (
    update jobs set
        version = job.version,
        position = job.position,
        hash = job.hash,
        status = job.status,
        watched = job.watched,
        final_position = coalesce(jobs.final_position, job.final_position),
        pulse = job.pulse,
        state = coalesce(job.state, jobs.state)
    from unnest(
        $32::bigint[], $33::bigint[], $34::bigint[], $35::bytea[], $36::text[], $37::boolean[],
        $38::bigint[], $39::jsonb[], $40::jsonb[])
        as job (id, version, position, hash, status, watched, final_position, pulse, state)
    where jobs.id = job.id and exists (select from head)
),
spans as (
    insert into job_spans (position, job_id, version, recorded_at, status, attempt, verdict,
        reason_code, reason_message, counts)
    select * from unnest(
        $41::bigint[], $42::bigint[], $43::bigint[], $44::timestamptz[], $45::text[],
        $46::integer[], $47::text[], $48::text[], $49::text[], $50::jsonb[])
    where exists (select from head)
)
select clock_timestamp() as now, count(*) as appended from head
