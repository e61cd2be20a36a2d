-- Which migrations this database has had. Runs under the migration lock.
create table if not exists schema_migrations (
    name       text        primary key,
    sha256     text        not null,
    applied_at timestamptz not null default clock_timestamp()
)
