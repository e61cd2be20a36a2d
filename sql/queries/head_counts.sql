-- How many jobs have each status, as the head has it.
select counts from log_head
