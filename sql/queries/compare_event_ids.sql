-- $1 beyond this position, $2 how many to show. The rows that differ between live and rebuilt, and
-- how many they are.
select
    coalesce(live.job_id, rebuilt.job_id) || '/' || coalesce(live.event_id, rebuilt.event_id) as key,
    to_jsonb(live) as live,
    to_jsonb(rebuilt) as rebuilt,
    count(*) over () as differing
from (select * from event_ids where position > $1) live
full join (select * from event_ids_rebuilt where position > $1) rebuilt
    on rebuilt.job_id = live.job_id and rebuilt.event_id = live.event_id
where live is distinct from rebuilt
order by coalesce(live.position, rebuilt.position)
limit $2
