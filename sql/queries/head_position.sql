-- Where the log ends.
select position from log_head
