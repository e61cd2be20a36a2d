-- $1 version. An empty log has nothing to rebuild: its projections are those of whoever writes first.
update projections set version = $1, built_at = clock_timestamp()
where version < $1 and (select position from log_head) = 0
