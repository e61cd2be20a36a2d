-- Whether the database answers and holds the log.
select count(*) from schema_migrations
