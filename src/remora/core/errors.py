"""Every error Remora raises on purpose.

    RemoraError
    └── UserError                 exit 2, one line, no traceback: the user can mend it
        ├── UnknownName           a name that is not in a list we can show
        ├── BadValue              a value of the wrong type or outside its range
        ├── Unavailable           a package or device that is not here, and what brings it
        ├── TooLarge              a workload that cannot fit, with the arithmetic
        ├── ResultsUnusable       a results folder that cannot be read or written
        ├── EnvironmentsDiffer    results measured under conditions that do not compare
        ├── ScriptUnusable        a script to run that is not there or cannot be read
        ├── RosterUnusable        the folder where jobs that share a machine find each other
        ├── PriorityTaken         a second high-priority job, where one is to be the only one
        ├── NotPermitted          what the system does not let a job do, and what to grant
        ├── FolderInUse           a checkpoint folder that another job is writing to
        ├── SaveFailed            a checkpoint that storage would not take
        ├── StateUnsupported      a value that a checkpoint cannot hold, and where it lies
        ├── StateMismatch         a checkpoint that does not fit the objects it is restored into
        ├── InvariantsUnusable    a file of invariants that is missing, damaged or of another kind
        ├── TraceUnusable         a recorded trace that is missing, damaged or of another kind
        ├── CheckpointUnusable    a checkpoint folder without one that can be read, or not ours
        │   └── CheckpointDamaged bytes that are no whole checkpoint, or a hostile one
        ├── CannotCapture         a model that cannot become a graph: which operator, which line
        ├── RemoteError           what a remote service could not do
        │   ├── LinkLost          the other end of a connection is gone or silent
        │   │   ├── ServerLost    that end was the server: whoever waited for it hears of it
        │   │   └── WireDamaged   bytes that are no message of ours, or one beyond the limits
        │   ├── SessionLost       a session that the server no longer holds
        │   ├── DeadlineExceeded  no answer within the time that was given
        │   └── Refused           the server says no: its token, its version, its limits
        │       ├── Full          a server that has no room now
        │       ├── NotAllowed    an operator that no server runs
        │       ├── NodeFailed    an operator that does not take what it is given
        │       ├── ShapesUnknown an operator of which nobody can tell ahead what it gives
        │       └── CallFailed    the same, as its client hears of it
        └── JobEnded              a service cannot let the program it rides with go on
            ├── ReplayDiverged    a resumed script that does not do what it did the first time
            └── InvariantViolated an invariant did not hold, and the user asked to stop then: exit 1

Anything else that reaches the command line is a defect of ours: exit 1, with a traceback.
A message says what is wrong, then the valid choices, then the next step, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RemoraError(Exception):
    """The root. Never raised itself."""

    exit_code = 1


class UserError(RemoraError):
    """Something the user can mend; the command line shows its one line and exits 2."""

    exit_code = 2


class UnknownName(UserError):
    """A name that is none of the valid ones.

    >>> print(UnknownName("scale", "quik", ["quick", "paper"]))
    unknown scale 'quik' (did you mean 'quick'?); choose from: paper, quick

    ``others``: in words, more that are valid, and too many to name.
    """

    def __init__(self, kind: str, name: str, valid: Iterable[str], others: str = "") -> None:
        self.kind, self.name, self.valid = kind, name, sorted(valid)
        close = difflib.get_close_matches(name, self.valid, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        choices = ", ".join(filter(None, (*self.valid, others))) or "none are registered"
        super().__init__(f"unknown {kind} {name!r}{hint}; choose from: {choices}")


class BadValue(UserError):
    """A value of the wrong type or outside its range."""


class Unavailable(UserError):
    """A package or device that is not here; the message names the command that brings it."""


class TooLarge(UserError):
    """A workload that cannot fit in memory; the message shows the arithmetic."""


class ResultsUnusable(UserError):
    """A results folder that is missing, unwritable, damaged, or of another version."""


class EnvironmentsDiffer(UserError):
    """Two sets of results whose machines or versions differ."""


class ScriptUnusable(UserError):
    """A script that does not exist or cannot be read."""


class CheckpointUnusable(UserError):
    """A checkpoint folder that is missing, unwritable, of another version, or holds none whole."""


class InvariantsUnusable(UserError):
    """A file of invariants that is missing, unwritable, damaged or of another kind."""


class TraceUnusable(UserError):
    """A recorded trace that is missing, unwritable, damaged or of another kind."""


class RosterUnusable(UserError):
    """The folder where jobs that share a machine find each other cannot be used."""


class PriorityTaken(UserError):
    """A high-priority job runs already, and it or the new one is to be the only one."""


class NotPermitted(UserError):
    """The system does not let this job do something; the message says what to grant."""


class FolderInUse(UserError):
    """A checkpoint folder that another job is writing to."""


class SaveFailed(UserError):
    """A checkpoint that storage would not take, where the user asked to hear of it."""


class StateUnsupported(UserError):
    """A value that a checkpoint cannot hold; the message says where in the state it lies."""


class StateMismatch(UserError):
    """A checkpoint that does not fit the objects to restore: names or shapes differ."""


class CheckpointDamaged(CheckpointUnusable):
    """Bytes that are no whole checkpoint, or ask for what a checkpoint never needs."""


class CannotCapture(UserError):
    """A model that cannot become a graph; the message names the operator and the line."""


class RemoteError(UserError):
    """What a remote service could not do. Raised as one of the kinds below it."""


class LinkLost(RemoteError):
    """The other end of a connection is gone, or has been silent for too long."""


class ServerLost(LinkLost):
    """The server is gone or silent; every request that waited for it ends with this."""


class WireDamaged(LinkLost):
    """Bytes that are no message of ours, or announce more than the limits allow."""


class SessionLost(RemoteError):
    """A session that the server no longer holds."""


class DeadlineExceeded(RemoteError):
    """No whole answer came within the time given; the request has been cancelled."""


class Refused(RemoteError):
    """The server does not take this client or this request; the message says why."""


class Full(Refused):
    """The server has no room for it now; another may have, or the same later."""


class JobEnded(UserError):
    """Raised into a running program by a service that cannot let it go on."""


class ReplayDiverged(JobEnded):
    """A resumed script that does not do what it did the first time."""


class InvariantViolated(JobEnded):
    """An invariant did not hold, and the user asked for that to end the job."""

    exit_code = 1
