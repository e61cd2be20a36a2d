grant select on schema_migrations to epochlog_service
