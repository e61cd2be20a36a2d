-- Lets whoever migrates also work as the service. Where somebody else made the role and granted it
-- beforehand, there is nothing left to grant and no right to do so.
do $$
begin
    execute format('grant epochlog_service to %I', current_user);
exception
    when insufficient_privilege then
        if not pg_has_role(current_user, 'epochlog_service', 'member') then
            raise;
        end if;
end
$$
