-- $1 up to this position. An event that lies in the log no more (it was compacted, or archived) keeps
-- the id that is known of it: nothing could tell it again.
with kept as (
    insert into event_ids_rebuilt (job_id, event_id, position, version, attempt, seq)
    select job_id, event_id, position, version, attempt, seq
    from event_ids known
    where position <= $1 and not exists (
        select from event_ids_rebuilt r
        where r.job_id = known.job_id and r.event_id = known.event_id)
    returning position
)
select count(*) from kept
