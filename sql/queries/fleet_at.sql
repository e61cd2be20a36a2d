-- $1 position, $2 how many events before it to look at first. Every job that was not final there,
-- newest first: how it stood, and its last event by then. Nearly every job has one among those first
-- events. Of the others it is found by halving between the job's spans: there is no index by job and
-- position.
with recursive recent as materialized (
    select job_id, max(version) as version
    from events
    where position > $1::bigint - $2::bigint and position <= $1
    group by job_id
),
alive as materialized (
    select
        j.id,
        j.first_position,
        j.position as last_position,
        s.version as span_version,
        s.recorded_at as since,
        s.status,
        s.attempt,
        s.verdict,
        s.reason_code,
        s.reason_message,
        case when j.position <= $1 then j.version else r.version end as known_version,
        j.version as last_version
    from jobs j
    cross join lateral (
        select * from job_spans where job_id = j.id and position <= $1
        order by position desc
        limit 1
    ) s
    left join recent r on r.job_id = j.id
    where int8range(j.first_position, j.final_position) @> $1::bigint
),
halving (id, first_position, last_position, low, high) as (
    select  -- at low is an event by then, at high a later one
        a.id,
        a.first_position,
        a.last_position,
        coalesce(a.known_version, a.span_version),
        coalesce(
            a.known_version + 1,
            (select version from job_spans where job_id = a.id and position > $1
                order by position limit 1),
            a.last_version)
    from alive a
    union all
    select
        h.id,
        h.first_position,
        h.last_position,
        case when middle.position <= $1 then middle.version else h.low end,
        case when middle.position <= $1 then h.high else (h.low + h.high) / 2 end
    from halving h
    left join lateral (
        select version, position from events
        where job_id = h.id
            and version >= (h.low + h.high) / 2 and version < h.high
            and position >= h.first_position and position <= h.last_position
        order by version
        limit 1
    ) middle on true
    where h.high - h.low > 1
)
select
    a.id,
    a.first_position,
    a.status,
    a.attempt,
    a.verdict,
    a.reason_code,
    a.reason_message,
    a.since,
    h.low as version,
    (select position from events
        where job_id = h.id and version = h.low
            and position >= h.first_position and position <= $1
        limit 1) as position,
    request.*
from halving h
join alive a on a.id = h.id
cross join lateral (select state from jobs where id = h.id limit 1) job
cross join lateral jsonb_to_record(job.state) as request (
    trace_id text, dataset_id text, model_name text, epochs integer, labels jsonb,
    created_at timestamptz)
where h.high - h.low <= 1
order by a.id desc
