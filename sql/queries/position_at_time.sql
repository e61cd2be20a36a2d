-- $1 time. The last position that was recorded by then, and where the log ends now. Times never go
-- back along the log, so halving finds it in some twenty probes without an index on time.
with recursive halving (low, high) as (
    select 0::bigint, position + 1 from log_head  -- everything at low is early, at high late
    union all
    select
        case when middle.recorded_at <= $1 then middle.position else low end,
        case when middle.recorded_at <= $1 then high else (low + high) / 2 end
    from halving
    left join lateral (
        select position, recorded_at from events
        where position >= (low + high) / 2 and position < high
        order by position
        limit 1
    ) middle on true
    where high - low > 1
)
select
    (select low from halving where high - low <= 1 limit 1) as position,
    $1::timestamptz as time,
    position as head,
    clock_timestamp() as now
from log_head
