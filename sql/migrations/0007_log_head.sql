-- Where the log ends. Every batch moves this one row on, from where its writer believed it to be:
-- so writers of any number of processes take turns, and positions become visible in their order.

create table log_head (
    position    bigint      not null,
    job_id      bigint      not null,
    recorded_at timestamptz not null,
    counts      jsonb       not null,
    generation  integer     not null default 1,
    only_one    boolean     primary key default true check (only_one)
) with (fillfactor = 10);

comment on column log_head.job_id is 'The newest job.';
comment on column log_head.recorded_at is 'No later batch is recorded earlier, even if the clock is set back.';
comment on column log_head.generation is 'Grows when rebuilt projections take the place of the old ones.';
comment on column log_head.counts is 'How many jobs have each status.';

insert into log_head (position, job_id, recorded_at, counts)
select
    coalesce((select max(position) from events), 0),
    coalesce((select max(id) from jobs), 0),
    coalesce((select max(recorded_at) from events), '1970-01-01T00:00:00Z'),
    coalesce((select jsonb_object_agg(status, number)
        from (select status, count(*) as number from jobs group by status) by_status), '{}');

grant select, update on log_head to epochlog_service;
