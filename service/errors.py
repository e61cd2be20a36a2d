"""Every error the service answers with: status, code, and a docstring that is its message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of a request that is wrong, and what is wanted there."""

    field: str
    message: str


class ServiceError(Exception):
    """The service could not answer."""

    status = 500
    code = "internal_error"

    def __init__(self, detail: str | None = None, *, errors: Sequence[FieldError] = ()) -> None:
        """Take the sentence for this case; without one, the class says it."""
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.errors = tuple(errors)
        super().__init__(self.detail)


class InvalidRequestError(ServiceError):
    """The request is malformed."""

    status = 400
    code = "invalid_request"


class PayloadTooLargeError(ServiceError):
    """The body is larger than 256 KiB."""

    status = 413
    code = "payload_too_large"


class TokenMissingError(ServiceError):
    """The request needs the header `Authorization: Bearer <token>`."""

    status = 401
    code = "token_missing"


class TokenInvalidError(ServiceError):
    """The token is not one of ours."""

    status = 401
    code = "token_invalid"


class TokenExpiredError(ServiceError):
    """The token has expired."""

    status = 401
    code = "token_expired"


class WrongJobError(ServiceError):
    """The token belongs to another job."""

    status = 403
    code = "wrong_job"


class WrongScopeError(ServiceError):
    """The token was made for another purpose."""

    status = 403
    code = "wrong_scope"


class ForbiddenError(ServiceError):
    """The token's role does not allow this."""

    status = 403
    code = "forbidden"


class NotFoundError(ServiceError):
    """There is nothing at this address."""

    status = 404
    code = "not_found"


class JobNotFoundError(ServiceError):
    """There is no such job."""

    status = 404
    code = "job_not_found"


class JobIsFinalError(ServiceError):
    """The job has ended and cannot change."""

    status = 409
    code = "job_is_final"


class JobIsImportedError(ServiceError):
    """The job was imported from another log and cannot change here."""

    status = 409
    code = "job_is_imported"


class TraceMismatchError(ServiceError):
    """The body's trace_id is not the job's."""

    status = 409
    code = "trace_mismatch"


class EventIdConflictError(ServiceError):
    """This event was recorded before with another body."""

    status = 409
    code = "event_id_conflict"


class IdempotencyConflictError(ServiceError):
    """This Idempotency-Key was used before with another body."""

    status = 409
    code = "idempotency_conflict"


class OverloadedError(ServiceError):
    """The service has more to write than it can; send this again later."""

    status = 503
    code = "overloaded"


class StoreUnavailableError(ServiceError):
    """The database cannot be reached; send this again later."""

    status = 503
    code = "store_unavailable"


class ExecutorDownError(ServiceError):
    """The executor cannot be asked now; send this again later."""

    status = 503
    code = "executor_unavailable"


class StorageUnavailableError(ServiceError):
    """The object store cannot be asked now; send this again later."""

    status = 503
    code = "storage_unavailable"


class StorageNotSignedError(ServiceError):
    """This service signs no addresses of the storage: EPOCHLOG_STORAGE_ACCESS is `keys`."""

    status = 409
    code = "storage_not_signed"


class StorageRefusesError(ServiceError):
    """The object store refuses the service's own keys, or has no such bucket."""

    status = 409
    code = "storage_refuses"


class ForbiddenKeyError(ServiceError):
    """This object is not the job's to read or write."""

    status = 403
    code = "forbidden_key"


class FencedError(Exception):
    """This process supervised and does not any more; what it asked for was not written.

    No request is answered with it: only the supervisor acts in a term.
    """


class SettingsError(Exception):
    """A setting is wrong or missing; the message names the variable and what it needs."""


class StateFolderInUseError(Exception):
    """Another service runs on this state folder."""
