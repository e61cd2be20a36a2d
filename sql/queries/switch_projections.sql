-- Let the rebuilt tables take the place of the live ones. Owner, grants and comment stay, and so do the
-- names of indexes and constraints. What we would lose unseen stops us.
do $$
declare
    live text;
    rebuilt text;
    item record;
begin
    foreach live in array array['jobs', 'job_spans', 'event_ids'] loop
        rebuilt := live || '_rebuilt';
        if exists (select from pg_trigger where tgrelid = live::regclass)
            or exists (select from pg_policy where polrelid = live::regclass) then
            raise exception 'the projection % has triggers or policies, which a replay would lose', live;
        end if;
        for item in
            select
                c.relowner::regrole as owner,
                obj_description(c.oid, 'pg_class') as comment
            from pg_class c where c.oid = live::regclass
        loop
            execute format('alter table %I owner to %s', rebuilt, item.owner);
            execute format('comment on table %I is %L', rebuilt, item.comment);
        end loop;
        for item in
            select acl.*, null::name as attname
            from pg_class c, aclexplode(c.relacl) acl
            where c.oid = live::regclass and acl.grantee <> c.relowner
            union all
            select acl.*, a.attname
            from pg_attribute a, aclexplode(a.attacl) acl
            where a.attrelid = live::regclass
        loop
            execute format('grant %s %s on %I to %s%s',
                item.privilege_type,
                case when item.attname is null then '' else format('(%I)', item.attname) end,
                rebuilt,
                case when item.grantee = 0 then 'public' else item.grantee::regrole::text end,
                case when item.is_grantable then ' with grant option' else '' end);
        end loop;
        execute format('drop table %I', live);
        execute format('alter table %I rename to %I', rebuilt, live);
        for item in
            select c.relname as name, left(c.relname, -length('_rebuilt')) as before
            from pg_index i join pg_class c on c.oid = i.indexrelid
            where i.indrelid = live::regclass and c.relname like '%\_rebuilt'
        loop
            execute format('alter index %I rename to %I', item.name, item.before);
        end loop;
    end loop;
end
$$
