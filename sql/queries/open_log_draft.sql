-- An empty draft, whatever an interrupted run has left in it.
select open_log_draft()
