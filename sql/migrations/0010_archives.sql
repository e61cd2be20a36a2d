-- Old ranges of the log are archived and slimmed: in place of runs of heartbeats stand roll-ups, and
-- every other event stays as it is. The service's role can ask for that and for the way back, and
-- for nothing else: the functions here look themselves that no other change is made.

create table log_archives (
    number         bigint      generated always as identity primary key,
    first_position bigint      not null references log_partitions,
    end_position   bigint      not null,
    state          text        not null check (state in ('slim', 'full')),
    manifest       jsonb       not null check (jsonb_typeof(manifest) = 'object'),
    roll_ups       bigint      not null,
    digest         bytea       not null check (octet_length(digest) = 32),
    waiting_for    bigint[]    not null,
    signature      bytea       not null check (octet_length(signature) = 32),
    registered_at  timestamptz not null default clock_timestamp()
);

comment on table log_archives is 'Append only, as events are. A range''s last row says how it stands.';
comment on column log_archives.state is 'slim: roll-ups stand for heartbeats. full: they were put back.';
comment on column log_archives.manifest is 'What the archive holds, and the SHA-256 of its file.';
comment on column log_archives.digest is 'SHA-256 over the range''s roll-ups.';
comment on column log_archives.waiting_for is 'Jobs whose heartbeats stayed because their attempt went on.';
comment on column log_archives.signature is 'HMAC-SHA-256 over all this, by a key that is not here.';

create index log_archives_by_range on log_archives (first_position, number desc);

create trigger log_archives_are_immutable before update or delete on log_archives
    for each row execute function refuse_change();
create trigger log_archives_are_immutable_as_a_whole
    before update or delete or truncate on log_archives
    for each statement execute function refuse_change();
alter table log_archives enable always trigger log_archives_are_immutable;
alter table log_archives enable always trigger log_archives_are_immutable_as_a_whole;

grant select on log_archives to epochlog_service;

-- An empty table for what is to come into a range: roll-ups, or the heartbeats that they stand for.
-- What an earlier, interrupted run has left in it is gone.
create function open_log_draft() returns void
    language plpgsql security definer as $$
begin
    drop table if exists log_draft;
    create table log_draft (like events including constraints);
    alter table log_draft add constraint log_draft_one_version unique (job_id, version);
    grant select, insert on log_draft to epochlog_service;
end
$$;

-- The first roll-up of a job at or behind a version, in one of the tables of the log.
create function next_roll_up(partition text) returns text
    language sql immutable as $$
    select format(
        '(select position, version, attempt, event_id, hash,'
        ' (data ->> ''from_version'')::bigint as from_version,'
        ' (data ->> ''from_position'')::bigint as from_position,'
        ' (data ->> ''count'')::bigint as count'
        ' from %I where job_id = event.job_id and version >= event.version and type = ''heartbeats'''
        ' order by version limit 1)', partition)
$$;

-- Everything of a range's table that its draft does not replace, into the draft.
create function keep_in_log_draft(partition text, which text) returns void
    language plpgsql as $$
begin
    execute format(
        'insert into log_draft (position, job_id, version, attempt, event_id, type, source,'
        ' trace_id, seq, occurred_at, recorded_at, rule, data, hash)'
        ' select position, job_id, version, attempt, event_id, type, source,'
        ' trace_id, seq, occurred_at, recorded_at, rule, data, hash'
        ' from %I event where %s order by position', partition, which);
end
$$;

-- Let the draft take the place of a range's table. Everybody who reads or writes events waits while
-- it does, which takes milliseconds; and it waits for no reader longer than that itself.
create function put_log_draft_in_place(part log_partitions) returns void
    language plpgsql as $$
begin
    alter table log_draft add constraint log_draft_pkey primary key (position);
    execute format(
        'alter table log_draft add constraint in_range check (position >= %s and position < %s)',
        part.first_position, part.end_position);
    create trigger events_are_immutable_as_a_whole before update or delete or truncate on log_draft
        for each statement execute function refuse_change();
    alter table log_draft enable always trigger events_are_immutable_as_a_whole;
    revoke all on log_draft from epochlog_service;
    analyze log_draft;
    for try in reverse 100 .. 0 loop
        begin
            lock table log_partitions in share row exclusive mode;
            lock table events in access exclusive mode;
            exit;
        exception when lock_not_available then
            if try = 0 then
                raise;
            end if;
            perform pg_sleep(0.1);
        end;
    end loop;
    execute format('alter table events detach partition %I', part.name);
    execute format('drop table %I', part.name);
    execute format('alter table log_draft rename to %I', part.name);
    execute format('alter table %I rename constraint log_draft_pkey to %I',
        part.name, part.name || '_pkey');
    execute format('alter table %I rename constraint log_draft_one_version to %I',
        part.name, part.name || '_one_version');
    execute format('alter table events attach partition %I for values from (%s) to (%s)',
        part.name, part.first_position, part.end_position);
    execute format('alter table %I enable always trigger events_are_immutable', part.name);
    execute format('alter table %I drop constraint in_range', part.name);
end
$$;

-- Refuse the draft unless each of its rows is a roll-up that stands where a heartbeat stood, with that
-- one's hash, id and times, and stands for as many heartbeats as it says, all of which counted and
-- none of which another roll-up stands for.
create function check_roll_ups(partition text) returns void
    language plpgsql as $$
declare
    wrong bigint;
begin
    execute format(
        'select count(*) from log_draft draft left join %I event on event.position = draft.position'
        ' where (draft.type = ''heartbeats'' and event.type = ''heartbeat'''
        ' and draft.rule is null and event.rule is null'
        ' and row (draft.job_id, draft.version, draft.attempt, draft.event_id, draft.source,'
        ' draft.trace_id, draft.seq, draft.occurred_at, draft.recorded_at, draft.hash)'
        ' is not distinct from row (event.job_id, event.version, event.attempt, event.event_id,'
        ' event.source, event.trace_id, event.seq, event.occurred_at, event.recorded_at, event.hash)'
        ') is not true', partition)
    into wrong;
    if wrong > 0 then
        raise exception '% roll-ups stand where no such heartbeat stood', wrong
            using errcode = 'check_violation';
    end if;
    execute format(
        'with covered as ('
        ' select next.position, count(*) as found, min(event.position) as from_position,'
        ' bool_and(event.type = ''heartbeat'' and event.rule is null'
        ' and event.attempt = next.attempt) as alike'
        ' from %I event cross join lateral %s next'
        ' where event.version >= next.from_version group by next.position)'
        ' select count(*) from log_draft draft left join covered using (position)'
        ' where (alike and found > 1 and found = (data ->> ''count'')::bigint'
        ' and found = version - (data ->> ''from_version'')::bigint + 1'
        ' and from_position = (data ->> ''from_position'')::bigint) is not true',
        partition, next_roll_up('log_draft'))
    into wrong;
    if wrong > 0 then
        raise exception '% roll-ups do not stand for what they say', wrong
            using errcode = 'check_violation';
    end if;
end
$$;

-- Refuse the draft unless it holds the heartbeats that the range's roll-ups stand for, all of them and
-- no other row, each roll-up's last one with its position, id and hash.
create function check_heartbeats(partition text) returns void
    language plpgsql as $$
declare
    wrong bigint;
begin
    execute format(
        'with covered as ('
        ' select next.position, count(*) as found,'
        ' bool_and(event.type = ''heartbeat'' and event.rule is null'
        ' and event.attempt = next.attempt'
        ' and event.position between next.from_position and next.position) as alike,'
        ' bool_or((event.position, event.version, event.event_id, event.hash)'
        ' = (next.position, next.version, next.event_id, next.hash)) as ends'
        ' from log_draft event cross join lateral %2$s next'
        ' where event.version >= next.from_version group by next.position)'
        ' select (select count(*) from log_draft) - coalesce(sum(found), 0)'
        ' + count(*) filter (where (alike and ends and found = (data ->> ''count'')::bigint)'
        ' is not true)'
        ' from %1$I left join covered using (position) where type = ''heartbeats''',
        partition, next_roll_up(partition))
    into wrong;
    if wrong <> 0 then
        raise exception 'the heartbeats are not those that the roll-ups stand for'
            using errcode = 'check_violation';
    end if;
end
$$;

-- Put the draft's roll-ups in the place of the heartbeats of a complete range that they stand for, and
-- forget the event ids up to its end of the jobs that had ended there. Answers how many events went.
create function slim_log_partition(
    first bigint, manifest jsonb, digest bytea, waiting_for bigint[], signature bytea
) returns bigint
    language plpgsql security definer set lock_timeout = '200ms' as $$
declare
    part log_partitions;
    gone bigint;
    roll_ups bigint;
begin
    lock table log_draft in access exclusive mode;
    select * into strict part from log_partitions p where p.first_position = first;
    if part.end_position > (select position from log_head) then
        raise exception 'the range from % is not complete', first using errcode = 'check_violation';
    end if;
    if exists (
        select from log_partitions p where p.first_position < first and not exists (
            select from log_archives a where a.first_position = p.first_position)
    ) then
        raise exception 'a range before % is not archived', first using errcode = 'check_violation';
    end if;
    analyze log_draft;
    perform check_roll_ups(part.name);
    execute format(
        'delete from event_ids known using jobs job'
        ' where job.id = known.job_id and job.final_position < %1$s and known.position < %1$s'
        ' and known.job_id in (select job_id from %2$I)', part.end_position, part.name);
    select coalesce(sum((data ->> 'count')::bigint - 1), 0) into gone from log_draft;
    if exists (select from log_draft) then
        perform keep_in_log_draft(part.name, format(
            'event.version < coalesce((select from_version from %s next), event.version + 1)',
            next_roll_up('log_draft')));
        perform put_log_draft_in_place(part);
    end if;
    execute format('select count(*) from %I where type = ''heartbeats''', part.name) into roll_ups;
    insert into log_archives
        (first_position, end_position, state, manifest, roll_ups, digest, waiting_for, signature)
    values (first, part.end_position, 'slim', manifest, roll_ups, digest, waiting_for, signature);
    return gone;
end
$$;

-- Put the draft's heartbeats back in the place of the roll-ups of a range. Answers how many came back.
create function restore_log_partition(
    first bigint, manifest jsonb, digest bytea, signature bytea
) returns bigint
    language plpgsql security definer set lock_timeout = '200ms' as $$
declare
    part log_partitions;
    back bigint;
begin
    lock table log_draft in access exclusive mode;
    select * into strict part from log_partitions p where p.first_position = first;
    analyze log_draft;
    perform check_heartbeats(part.name);
    execute format(
        'select (select count(*) from log_draft) - count(*) from %I where type = ''heartbeats''',
        part.name) into back;
    if exists (select from log_draft) then
        perform keep_in_log_draft(part.name, 'event.type <> ''heartbeats''');
        perform put_log_draft_in_place(part);
    end if;
    insert into log_archives
        (first_position, end_position, state, manifest, roll_ups, digest, waiting_for, signature)
    values (first, part.end_position, 'full', manifest, 0, digest, '{}', signature);
    return back;
end
$$;

-- What runs with the owner's rights must never find a table that its caller has made.
do $$
declare
    name text;
begin
    foreach name in array array['open_log_draft', 'slim_log_partition', 'restore_log_partition'] loop
        execute format('alter function %I set search_path = %I, pg_temp', name, current_schema());
        execute format('revoke all on function %I from public', name);
        execute format('grant execute on function %I to epochlog_service', name);
    end loop;
    foreach name in array array['next_roll_up', 'keep_in_log_draft', 'put_log_draft_in_place',
        'check_roll_ups', 'check_heartbeats'] loop
        execute format('revoke all on function %I from public', name);
    end loop;
end
$$;
