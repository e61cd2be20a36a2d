-- Every complete range of the log: how old its newest event is, how large it is, and how it was
-- archived last (nulls: never). `ready`: a job that was waited for has ended since.
select
    part.first_position,
    part.end_position,
    (select event.recorded_at from events event
        where event.position < part.end_position
        order by event.position desc limit 1) as newest_at,
    pg_total_relation_size(to_regclass(part.name)) as bytes,
    archive.state,
    archive.manifest,
    archive.roll_ups,
    archive.digest,
    archive.waiting_for,
    archive.signature,
    archive.registered_at,
    exists (
        select from jobs where id = any (archive.waiting_for) and final_position is not null
    ) as ready,
    clock_timestamp() as now
from log_partitions part
left join lateral (
    select * from log_archives
    where first_position = part.first_position
    order by number desc
    limit 1
) archive on true
where part.end_position <= (select position from log_head)
order by part.first_position
