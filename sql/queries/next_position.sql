-- $1 position. The next one at which an event stands.
select min(position) from events where position > $1
