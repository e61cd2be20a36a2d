-- The same tables for this session alone: a check leaves nothing behind.
do $$
begin
    create temporary table jobs_rebuilt (like jobs);
    create temporary table job_spans_rebuilt (like job_spans);
    create temporary table event_ids_rebuilt (like event_ids);
    alter table jobs_rebuilt add primary key (id);
end
$$
