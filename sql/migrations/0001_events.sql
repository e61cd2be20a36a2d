-- The log: immutable events in one global order. Everything else can be made again from it.

create table events (
    position    bigint      primary key check (position > 0),
    job_id      bigint      not null check (job_id > 0),
    version     bigint      not null check (version > 0),
    attempt     integer     not null check (attempt > 0),
    event_id    uuid        not null,
    type        text        not null check (type ~ '^[a-z][a-z_]{0,62}$'),
    source      text        not null
        check (source in ('api', 'trainer', 'launcher', 'watcher', 'supervisor', 'operator')),
    trace_id    uuid        not null,
    seq         bigint      check (seq > 0),
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    rule        text,
    data        jsonb       not null check (jsonb_typeof(data) = 'object'),
    hash        bytea       not null check (octet_length(hash) = 32),
    constraint events_one_version unique (job_id, version),
    constraint events_one_event_id unique (job_id, event_id)
);

comment on table events is 'Append only: UPDATE, DELETE and TRUNCATE are refused to every role.';
comment on column events.position is 'Place in the one global order; given under the log''s lock, without gaps.';
comment on column events.occurred_at is 'The producer''s clock.';
comment on column events.recorded_at is 'The database''s clock. Neither clock orders anything.';
comment on column events.rule is 'The rule that set the event aside when it was recorded.';
comment on column events.hash is 'SHA-256 over the record and the hash of the job''s version before.';

-- A callback without an event id is known again by its attempt and its place in the trainer's count.
create index events_by_seq on events (job_id, attempt, seq) where seq is not null;

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the log is append only: % on % is refused', tg_op, tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

create trigger events_are_immutable before update or delete on events
    for each row execute function refuse_change();
create trigger events_are_immutable_as_a_whole before update or delete or truncate on events
    for each statement execute function refuse_change();
alter table events enable always trigger events_are_immutable;
alter table events enable always trigger events_are_immutable_as_a_whole;

grant select, insert on events to epochlog_service;
