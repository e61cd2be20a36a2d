-- Where each job stands by the projection.
select id, status, state -> 'reason' ->> 'code' as reason,
    state -> 'reason' ->> 'message' as message, (state ->> 'attempt')::bigint as attempt,
    (state ->> 'retry_count')::bigint as retry_count,
    (state ->> 'interruptions')::bigint as interruptions, state ->> 'verdict' as verdict,
    version, position
from jobs
