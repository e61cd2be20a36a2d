-- Notifications of this session do not wait for the disk: they hold nothing that could be lost.
select set_config('synchronous_commit', 'off', false)
