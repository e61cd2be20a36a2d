-- $1 how many positions
select add_log_partition($1)
