select id from log_identity
