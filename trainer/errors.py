"""Why an attempt can fail: each class has the stable code the service records."""

from __future__ import annotations


class TrainerError(Exception):
    """The training failed."""

    code = "error"
    retryable = True

    def __init__(self, message: str = "") -> None:
        """Take the sentence for this case; without one, the class says it."""
        super().__init__(message or (type(self).__doc__ or "").strip())


class ConfigurationError(Exception):
    """A variable of the environment is missing or wrong; the message names it."""


class DatasetInvalidError(TrainerError):
    """The data set cannot be trained on."""

    code = "dataset_invalid"
    retryable = False


class DatasetMissingError(TrainerError):
    """The data set is not in the storage."""

    code = "dataset_missing"
    retryable = False


class ParamsInvalidError(TrainerError):
    """The job's parameters cannot be used."""

    code = "params_invalid"
    retryable = False


class StorageDeniedError(TrainerError):
    """The storage refused to read or write."""

    code = "storage_denied"
    retryable = False


class StorageUnreachableError(TrainerError):
    """The storage did not answer, however often it was asked."""

    code = "storage_unreachable"


class StorageSupersededError(TrainerError):
    """A later attempt of the job has written there already."""

    code = "storage_superseded"
    retryable = False


class OutOfMemoryError(TrainerError):
    """The machine ran out of memory."""

    code = "oom"


class NanLossError(TrainerError):
    """The loss is no longer a finite number."""

    code = "nan_loss"
    retryable = False


class ObjectMissingError(TrainerError):
    """There is nothing at that address in the storage."""

    code = "error"


class ObjectDamagedError(TrainerError):
    """What the storage gave is not what was written."""

    code = "error"


class DiskFullError(TrainerError):
    """A disk is full."""

    code = "disk_full"


class NotHeardError(Exception):
    """The service did not take the result."""


class ResumeError(Exception):
    """The checkpoint cannot be continued; the message says why."""


class Interrupted(BaseException):
    """The main thread is to leave what it does: somebody asked the trainer to end.

    Not an Exception, so that no library's `except Exception` swallows it on the way out.
    """
