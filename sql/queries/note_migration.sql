-- $1 name, $2 sha256
insert into schema_migrations (name, sha256) values ($1, $2)
