-- The log in ranges of positions, so that it can grow: a range is a table of its own, which can be
-- archived and slimmed as a whole. What is there already becomes the first range. A unique
-- constraint cannot reach across ranges unless it names the position, so each has its own.

create table log_partitions (
    first_position bigint primary key check (first_position > 0),
    end_position   bigint not null check (end_position > first_position),
    name           text   not null unique
);

comment on table log_partitions is 'The ranges of positions that the log has tables for, without gaps.';
comment on column log_partitions.end_position is 'The first position after the range.';

alter table events rename to events_before;
alter table events_before rename constraint events_pkey to events_before_pkey;
alter table events_before rename constraint events_one_version to events_from_1_one_version;
alter table events_before drop constraint events_one_event_id;
drop index events_by_seq;
drop trigger events_are_immutable on events_before;

create table events (like events_before including constraints including comments)
    partition by range (position);
comment on table events is 'Append only: UPDATE, DELETE and TRUNCATE are refused to every role.';

alter table events add primary key (position);

create trigger events_are_immutable before update or delete on events
    for each row execute function refuse_change();
create trigger events_are_immutable_as_a_whole before update or delete or truncate on events
    for each statement execute function refuse_change();
alter table events enable always trigger events_are_immutable;
alter table events enable always trigger events_are_immutable_as_a_whole;

grant select, insert on events to epochlog_service;

-- Give the log a table for its next `size` positions. Whoever writes to the log may call it; the
-- table belongs to whoever migrated, so that the writer still cannot change what it has written.
create function add_log_partition(size bigint) returns bigint
    language plpgsql security definer set search_path from current as $$
declare
    first bigint;
    partition text;
begin
    lock table log_partitions in share row exclusive mode;
    select coalesce(max(end_position), 1) into first from log_partitions;
    partition := 'events_from_' || first;
    execute format(
        'create table %I (like events including constraints, constraint in_range'
        ' check (position >= %s and position < %s))', partition, first, first + size);
    execute format(
        'create trigger events_are_immutable_as_a_whole before update or delete or truncate on %I'
        ' for each statement execute function refuse_change()', partition);
    execute format(
        'alter table %I enable always trigger events_are_immutable_as_a_whole', partition);
    execute format(
        'alter table events attach partition %I for values from (%s) to (%s)',
        partition, first, first + size);
    execute format('alter table %I enable always trigger events_are_immutable', partition);
    execute format('alter table %I drop constraint in_range', partition);
    execute format('alter table %I add constraint %I unique (job_id, version)',
        partition, partition || '_one_version');
    insert into log_partitions values (first, first + size, partition);
    return first + size;
end
$$;

-- Only our schema: a caller's temporary table must not be taken for one of ours.
do $$
begin
    execute format('alter function add_log_partition set search_path = %I, pg_temp', current_schema());
end
$$;

revoke all on function add_log_partition from public;
grant execute on function add_log_partition to epochlog_service;
grant select on log_partitions to epochlog_service;

-- Attach what is there, or begin with nothing.
do $$
declare
    last bigint;
begin
    select max(position) into last from events_before;
    if last is null then
        drop table events_before;
        return;
    end if;
    alter table events_before rename to events_from_1;
    revoke all on events_from_1 from epochlog_service;
    execute format('alter table events attach partition events_from_1 for values from (1) to (%s)', last + 1);
    alter table events_from_1 enable always trigger events_are_immutable;
    insert into log_partitions values (1, last + 1, 'events_from_1');
end
$$;
