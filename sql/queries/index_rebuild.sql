-- Give the rebuilt tables every index and key of the live ones, under their names and `_rebuilt`.
do $$
declare
    index record;
begin
    for index in
        select
            c.relname as name,
            t.relname as on_table,
            n.nspname as schema,
            i.indisprimary,
            exists (select from pg_constraint k where k.conindid = c.oid) as is_key,
            pg_get_indexdef(c.oid) as definition
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        join pg_class t on t.oid = i.indrelid
        join pg_namespace n on n.oid = t.relnamespace
        where t.oid in ('jobs'::regclass, 'job_spans'::regclass, 'event_ids'::regclass)
            and to_regclass(quote_ident(c.relname || '_rebuilt')) is null
    loop
        execute replace(
            index.definition,
            format('%I ON %I.%I ', index.name, index.schema, index.on_table),
            format('%I ON %I.%I ', index.name || '_rebuilt', index.schema, index.on_table || '_rebuilt'));
        if index.is_key then
            execute format('alter table %I add constraint %I %s using index %I',
                index.on_table || '_rebuilt', index.name || '_rebuilt',
                case when index.indisprimary then 'primary key' else 'unique' end,
                index.name || '_rebuilt');
        end if;
    end loop;
end
$$
