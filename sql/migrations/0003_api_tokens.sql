-- Tokens of the control API: only their SHA-256 is kept.

create table api_tokens (
    id         bigint      generated always as identity primary key,
    name       text        not null,
    role       text        not null check (role in ('viewer', 'operator', 'admin')),
    hash       bytea       not null unique check (octet_length(hash) = 32),
    created_at timestamptz not null default clock_timestamp()
);

grant select, insert on api_tokens to epochlog_service;
