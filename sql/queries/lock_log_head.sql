-- Writers that follow wait here, and see then what this one has committed.
select position from log_head for update
