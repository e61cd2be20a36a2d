-- $1 position. When the log reached it.
select recorded_at from events where position <= $1 order by position desc limit 1
