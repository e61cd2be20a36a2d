-- Few rows meet tables that grow: probe indexes, whatever the tables looked like when the plan was made.
select
    set_config('enable_seqscan', 'off', false),
    set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false)
