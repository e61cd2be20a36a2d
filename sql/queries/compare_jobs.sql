-- $1 beyond this position, $2 how many to show. The rows that differ between live and rebuilt, and
-- how many they are.
select
    coalesce(live.id, rebuilt.id)::text as key,
    to_jsonb(live) as live,
    to_jsonb(rebuilt) as rebuilt,
    count(*) over () as differing
from (select * from jobs where position > $1) live
full join (select * from jobs_rebuilt where position > $1) rebuilt on rebuilt.id = live.id
where live is distinct from rebuilt
order by coalesce(live.id, rebuilt.id)
limit $2
