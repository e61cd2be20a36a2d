-- What this session may do is what the service's role may do: never change the log.
set role epochlog_service
