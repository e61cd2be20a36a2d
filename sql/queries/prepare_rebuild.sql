-- Make empty tables beside the live projections, without their indexes but for the one that a job is
-- found by; those of a replay that did not end go.
do $$
declare
    live record;
begin
    drop table if exists jobs_rebuilt, job_spans_rebuilt, event_ids_rebuilt;
    create table jobs_rebuilt (like jobs including all excluding indexes);
    create table job_spans_rebuilt (like job_spans including all excluding indexes);
    create table event_ids_rebuilt (like event_ids including all excluding indexes);
    alter table jobs_rebuilt add constraint jobs_pkey_rebuilt primary key (id);
    for live in
        select relname as name, array_to_string(reloptions, ', ') as options
        from pg_class
        where oid in ('jobs'::regclass, 'job_spans'::regclass, 'event_ids'::regclass)
            and reloptions is not null
    loop
        execute format('alter table %I set (%s)', live.name || '_rebuilt', live.options);
    end loop;
end
$$
