-- $1 beyond this position, $2 how many to show. The rows that differ between live and rebuilt, and
-- how many they are.
select
    coalesce(live.position, rebuilt.position)::text as key,
    to_jsonb(live) as live,
    to_jsonb(rebuilt) as rebuilt,
    count(*) over () as differing
from (select * from job_spans where position > $1) live
full join (select * from job_spans_rebuilt where position > $1) rebuilt on rebuilt.position = live.position
where live is distinct from rebuilt
order by coalesce(live.position, rebuilt.position)
limit $2
