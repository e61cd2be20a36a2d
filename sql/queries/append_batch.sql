-- The one statement that writes callbacks to the log. $1 where the writer believes the log to end;
-- then how the head is to be: $2 position, $3 job id, $4 time, $5 counts; then one text a column, a
-- line a row, an empty line for null: $6 … $19 events, $20 … $28 jobs that went on (without a state
-- where only their pulse changed); $29 the generation of the projections and $30 the supervisor's term.
-- (Lines, because a client takes ten times as long to write an array.)
-- Answers the time, and 1, or 0 where the log ends elsewhere, was rebuilt, or another supervises now:
-- then nothing was written.
with head as (
    update log_head set position = $2, job_id = $3, recorded_at = $4, counts = $5
    where position = $1 and generation = $29 and term = $30
    returning position
),
event as (
    select position::bigint, job_id::bigint, version::bigint, attempt::integer, event_id::uuid,
        type, source, trace_id::uuid, seq::bigint, occurred_at::timestamptz,
        recorded_at::timestamptz, rule, data::jsonb, decode(hash, 'hex') as hash
    from unnest(
        string_to_array($6, E'\n'), string_to_array($7, E'\n'), string_to_array($8, E'\n'),
        string_to_array($9, E'\n'), string_to_array($10, E'\n'), string_to_array($11, E'\n'),
        string_to_array($12, E'\n'), string_to_array($13, E'\n'), string_to_array($14, E'\n', ''),
        string_to_array($15, E'\n'), string_to_array($16, E'\n'), string_to_array($17, E'\n', ''),
        string_to_array($18, E'\n'), string_to_array($19, E'\n'))
        as line (position, job_id, version, attempt, event_id, type, source, trace_id, seq,
            occurred_at, recorded_at, rule, data, hash)
    where exists (select from head)
),
-- Known ids end the statement before anything large is written.
ids as (
    insert into event_ids (job_id, event_id, position, version, attempt, seq)
    select job_id, event_id, position, version, attempt, seq from event
),
written as (
    insert into events (position, job_id, version, attempt, event_id, type, source, trace_id, seq,
        occurred_at, recorded_at, rule, data, hash)
    select position, job_id, version, attempt, event_id, type, source, trace_id, seq,
        occurred_at, recorded_at, rule, data, hash
    from event
),
moved as (
    update jobs set
        version = job.version::bigint,
        position = job.position::bigint,
        hash = decode(job.hash, 'hex'),
        status = job.status,
        watched = job.watched::boolean,
        final_position = coalesce(jobs.final_position, job.final_position::bigint),
        pulse = job.pulse::jsonb,
        state = coalesce(job.state::jsonb, jobs.state)
    from unnest(
        string_to_array($20, E'\n')::bigint[], string_to_array($21, E'\n'),
        string_to_array($22, E'\n'), string_to_array($23, E'\n'), string_to_array($24, E'\n'),
        string_to_array($25, E'\n'), string_to_array($26, E'\n', ''),
        string_to_array($27, E'\n'), string_to_array($28, E'\n', ''))
        as job (id, version, position, hash, status, watched, final_position, pulse, state)
    where jobs.id = job.id and exists (select from head)
)
select clock_timestamp() as now, count(*) as appended from head
