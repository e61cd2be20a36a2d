-- Leave out the ids that compaction has forgotten: up to the end of the archived ranges, those of jobs
-- that had ended there. Answers how many they were.
with archived as (select max(end_position) as position from log_archives),
forgotten as (
    delete from event_ids_rebuilt known
    using jobs_rebuilt job, archived
    where job.id = known.job_id
        and job.final_position < archived.position
        and known.position < archived.position
    returning known.position
)
select count(*) from forgotten
