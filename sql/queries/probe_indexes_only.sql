-- Keeps the planner, until the end of the transaction, from reading a whole table where a few probes
-- do: what it guesses of the rows behind a parameter is often wrong by a thousand.
select
    set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true)
