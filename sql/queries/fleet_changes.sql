-- $1 position from, $2 position to. Each job that stood otherwise there than here, by its id, and how
-- it stood: nulls where there was no such job yet.
with moved as (
    select distinct job_id from job_spans where position > $1 and position <= $2
)
select
    m.job_id,
    before.status as status_before,
    before.attempt as attempt_before,
    before.verdict as verdict_before,
    before.reason_code as reason_code_before,
    before.reason_message as reason_message_before,
    before.recorded_at as since_before,
    after.status,
    after.attempt,
    after.verdict,
    after.reason_code,
    after.reason_message,
    after.recorded_at as since
from moved m
left join lateral (
    select * from job_spans where job_id = m.job_id and position <= $1
    order by position desc
    limit 1
) before on true
cross join lateral (
    select * from job_spans where job_id = m.job_id and position <= $2
    order by position desc
    limit 1
) after
where (before.status, before.attempt, before.verdict)
    is distinct from (after.status, after.attempt, after.verdict)
order by m.job_id
