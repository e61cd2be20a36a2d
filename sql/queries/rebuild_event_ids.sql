-- $1 after this position, $2 up to this one. The ids of these events; answers how many they are.
with made as (
    insert into event_ids_rebuilt (job_id, event_id, position, version, attempt, seq)
    select job_id, event_id, position, version, attempt, seq
    from events
    where position > $1 and position <= $2
    returning position
)
select count(*) from made
