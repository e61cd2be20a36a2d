-- The role as which the service works: it owns nothing and can do only what is granted to it.
-- Roles belong to the whole cluster, so another database's migration may have just made it.
do $$
begin
    if not exists (select from pg_roles where rolname = 'epochlog_service') then
        create role epochlog_service nologin;
    end if;
exception
    when duplicate_object or unique_violation then null;
end
$$
