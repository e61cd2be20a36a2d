"""The keeper of one attempt: starts the trainer, outlives the service, writes down the end.

`python -m service.shim RUN_DIR` reads launch.json there (`{"command": [...]}`) and writes `claim`,
`process.json` and `exit.json` beside it. The trainer gets this process's own environment and
output. Only the standard library is imported, so that it starts in a few hundredths of a second.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

Facts = dict[str, Any]

ORPHANS_GRACE = 0.5  # seconds in which what a dead trainer left may tidy up its shared memory
ORPHANS_GIVE_UP = 5.0  # seconds after which the end is reported, whatever hangs in the kernel
WRITE_TRIES = 60  # seconds, one try each: a full disk must not lose an exit code

NEVER = {errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.E2BIG}
"""Why exec fails for good; what else stops a start (no memory, a full disk) may pass."""

PR_SET_CHILD_SUBREAPER = 36


def keep(run: Path) -> None:
    """Start the attempt in `run` and stay until its end is written; do nothing if it is claimed."""
    # Blocked, not ignored: the trainer would inherit an ignored signal through exec.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
    facts: Facts = {"boot": boot_id(), "at": time.time(), "shim": identity(os.getpid())}
    if not claim(run, facts):
        return
    try:
        pid = start(run, facts)
    except OSError as error:
        end = never_ran(error)
    else:
        end = ended(wait(pid))
    insist(run / "exit.json", end | {"at": time.time()})


def start(run: Path, facts: Facts) -> int:
    """Start the command of launch.json and return its pid; OSError where it never ran."""
    command = json.loads((run / "launch.json").read_bytes())["command"]
    adopt_orphans()
    pid, gate, told = fork_held(command)
    try:
        # Written before the trainer runs its first instruction: killed at any moment, this
        # process never leaves behind a trainer that nobody knows of.
        record(run / "process.json", facts | {"at": time.time(), "trainer": identity(pid)})
        with suppress(BrokenPipeError):
            os.write(gate, b"!")
    finally:
        os.close(gate)
    if failed := os.read(told, 32):
        raise ExecError(int(failed), os.strerror(int(failed)), command[0])
    return pid


class ExecError(OSError):
    """The kernel would not run the command."""


def never_ran(error: OSError) -> Facts:
    """The end of a command that never ran, numbered as shells do."""
    return {
        "exit_code": 127 if error.errno == errno.ENOENT else 126,
        "signal": None,
        "refused": isinstance(error, ExecError) and error.errno in NEVER,
        "message": f"The trainer cannot be started: {error.strerror}: {error.filename}.",
    }


def ended(status: int) -> Facts:
    """The end that a wait status tells."""
    if os.WIFSIGNALED(status):
        return {"exit_code": None, "signal": os.WTERMSIG(status)}
    return {"exit_code": os.WEXITSTATUS(status), "signal": None}


def claim(run: Path, facts: Facts) -> bool:
    """Make `run` this process's; False where it is somebody's already."""
    target = run / "claim"
    if target.exists():
        return False
    # A link appears whole or not at all: a claim never exists without the name of its owner,
    # as a file opened with O_EXCL would for an instant.
    draft = drafted(target, facts)
    try:
        os.link(draft, target)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


# The trainer's process


def fork_held(command: list[str]) -> tuple[int, int, int]:
    """Fork a child that waits at a gate before it becomes `command`.

    Returns its pid, the gate's end to write to, and the end on which it tells why exec failed.
    """
    held, gate = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(gate)  # else the end of this process would not open it
        become(command, held, tell)
    os.close(held)
    os.close(tell)
    return pid, gate, told


def become(command: list[str], held: int, tell: int) -> NoReturn:
    """Turn this child into the trainer once the gate opens; end it if the keeper is gone."""
    try:
        os.setsid()
        for each in ("SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE", "SIGXFSZ"):
            signal.signal(getattr(signal, each), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        if os.read(held, 1):
            os.execvp(command[0], command)  # noqa: S606 - the operator's own command, no shell
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(127)


def wait(pid: int) -> int:
    """Return the trainer's wait status, with nothing of it left behind."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        status = os.waitpid(pid, 0)[1]
        end_leftovers(pid)
        return status
    # Seen dead but not yet reaped, it keeps its group's number from being given to another.
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)) and ended.si_pid != pid:
        os.waitpid(ended.si_pid, 0)
    end_leftovers(pid)
    return os.waitpid(pid, 0)[1]


def end_leftovers(trainer: int) -> None:
    """End the dead trainer's workers: its process group, and orphans in sessions of their own."""
    began = time.monotonic()
    while (left := orphans(trainer)) and (waited := time.monotonic() - began) < ORPHANS_GIVE_UP:
        for pid in left if waited > ORPHANS_GRACE else ():
            with suppress(OSError):  # gone by now, or another user's
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    with suppress(ProcessLookupError, PermissionError):  # nobody there; only zombies (macOS)
        os.killpg(trainer, signal.SIGKILL)


def orphans(trainer: int) -> list[int]:
    """What came down to this process from its trainer and lives; the dead are reaped."""
    me = os.getpid()
    try:
        children = Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    others = [int(pid) for pid in children if int(pid) != trainer]
    return [pid for pid in others if os.waitpid(pid, os.WNOHANG)[0] == 0]


def adopt_orphans() -> None:
    """Have the trainer's orphans come to this process (Linux), so that it can end them."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


# Who a process is


def identity(pid: int) -> Facts:
    """What tells this process from a later one with the same number."""
    return {"pid": pid, "start": started(pid)}


def started(pid: int) -> str | None:
    """When the process started, in a form to compare only; None where it is gone or a zombie.

    It does not move when the machine's clock is set, as a time of day would.
    """
    if sys.platform != "linux":
        return started_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(b")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in {b"Z", b"X"} else fields[19].decode()


def started_by_ps(pid: int) -> str | None:
    """Where there is no /proc, ask ps."""
    import subprocess  # noqa: PLC0415 - slow to import, and not needed on Linux

    ps = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    plain = {"LC_ALL": "C", "TZ": "UTC0"}
    found = subprocess.run(ps, capture_output=True, text=True, env=plain, check=False)  # noqa: S603
    if found.returncode not in {0, 1}:
        raise OSError(errno.EIO, "ps failed", found.stderr.strip())
    state, _, start = found.stdout.strip().partition(" ")
    return start.strip() if start and not state.startswith("Z") else None


def boot_id() -> str | None:
    """What the kernel calls this start of the machine; None where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


# Files that are whole or absent


def record(target: Path, facts: Facts) -> None:
    """Write `facts` so that a reader, or a power cut, finds all of them or none."""
    drafted(target, facts).replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def drafted(target: Path, facts: Facts) -> Path:
    """A file beside `target` that holds `facts`, safe on the disk."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        with draft.open("x", encoding="ascii") as file:
            json.dump(facts, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft


def insist(target: Path, facts: Facts) -> None:
    """Write the end, trying again for a while where the disk refuses."""
    for _ in range(WRITE_TRIES):
        with suppress(OSError):
            return record(target, facts)
        time.sleep(1)
    return None


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
