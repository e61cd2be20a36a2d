"""The rules by which an event counts or is set aside, each with the sentence that explains it."""

from __future__ import annotations

from enum import StrEnum


class Rule(StrEnum):
    """A named rule; `SENTENCES` says it in words. The names are part of the API."""

    @classmethod
    def _missing_(cls, _value: object) -> Rule:
        """Read a rule that only a newer build knows; what is stored must stay readable."""
        return cls.UNKNOWN_RULE

    # Why an event did not count
    JOB_IS_FINAL = "job_is_final"
    STALE_ATTEMPT = "stale_attempt"
    UNKNOWN_ATTEMPT = "unknown_attempt"
    ATTEMPT_IS_DONE = "attempt_is_done"
    ATTEMPT_IS_GONE = "attempt_is_gone"
    ALREADY_REQUESTED = "already_requested"
    FIRST_CAUSE_STAYS = "first_cause_stays"
    CANCEL_WAS_HEARD = "cancel_was_heard"
    UNRECOGNISED_TYPE = "unrecognised_type"

    # Why the status is what it is
    UNKNOWN_RULE = "unknown_rule"
    NOTHING_YET = "nothing_yet"
    CREATED = "created"
    WAITING = "waiting"
    SEEN_RUNNING = "seen_running"
    CALLBACK_MEANS_RUNNING = "callback_means_running"
    DONE_DECIDES_SUCCESS = "done_decides_success"
    RETRY_WITHIN_BUDGET = "retry_within_budget"
    NOT_RETRYABLE = "not_retryable"
    RETRIES_SPENT = "retries_spent"
    INTERRUPTIONS_SPENT = "interruptions_spent"
    QUEUE_TIMEOUT = "queue_timeout"
    NEVER_LAUNCHED = "never_launched"
    CANCEL_CONFIRMED = "cancel_confirmed"


SENTENCES: dict[Rule, str] = {
    Rule.JOB_IS_FINAL: "A finished job never changes again, whatever arrives.",
    Rule.STALE_ATTEMPT: "What an older attempt says never changes the job.",
    Rule.UNKNOWN_ATTEMPT: "The log knows no such attempt of this job yet.",
    Rule.ATTEMPT_IS_DONE: "The attempt's first final word counts; what comes after it does not.",
    Rule.ATTEMPT_IS_GONE: "The attempt's process was seen gone; only its final word still counts.",
    Rule.ALREADY_REQUESTED: "The same was asked before; the first request counts.",
    Rule.FIRST_CAUSE_STAYS: "The first cause of a failure stays its reason.",
    Rule.CANCEL_WAS_HEARD: "The trainer had heard of the cancel before it reported success.",
    Rule.UNRECOGNISED_TYPE: "This build does not know the event's type.",
    Rule.UNKNOWN_RULE: "A newer build decided this, by a rule that this build does not know.",
    Rule.NOTHING_YET: "Nothing is in the log.",
    Rule.CREATED: "A job that was created and nothing else is pending.",
    Rule.WAITING: "The attempt waits for its turn, its process or its pod.",
    Rule.SEEN_RUNNING: "The attempt's process or pod was seen alive.",
    Rule.CALLBACK_MEANS_RUNNING: "A callback of the current attempt means that it runs.",
    Rule.DONE_DECIDES_SUCCESS: "Success comes only from the current attempt's own `done`.",
    Rule.RETRY_WITHIN_BUDGET: "The failure may pass and the budget allows another attempt.",
    Rule.NOT_RETRYABLE: "The failure would come again, so there is no further attempt.",
    Rule.RETRIES_SPENT: "The job has had all the retries that it may have.",
    Rule.INTERRUPTIONS_SPENT: "The infrastructure was lost more often than is allowed.",
    Rule.QUEUE_TIMEOUT: "The job waited longer than the queue timeout.",
    Rule.NEVER_LAUNCHED: "A job that was never launched is cancelled at once.",
    Rule.CANCEL_CONFIRMED: "A cancel was requested and the attempt is over.",
}
