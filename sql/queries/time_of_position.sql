-- $1 position. When the log reached it, and where the log ends now.
select
    $1::bigint as position,
    (select recorded_at from events where position <= $1 order by position desc limit 1) as time,
    position as head,
    clock_timestamp() as now
from log_head
