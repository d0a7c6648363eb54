"""All that a server holds, whoever its clients are: weights, models, sessions, and the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import psutil
import torch

from remora.core.clock import Clock, SystemClock
from remora.core.errors import BadValue
from remora.remote.server.builders import Builder, registry
from remora.remote.server.clients import Clients
from remora.remote.server.compiling import Compiler
from remora.remote.server.courses import Courses
from remora.remote.server.cutting import Cuts, cuts_for
from remora.remote.server.engine import Engine
from remora.remote.server.eviction import HOST, Eviction
from remora.remote.server.fair import FairTurns
from remora.remote.server.handles import Handles, Room
from remora.remote.server.models import Models
from remora.remote.server.policy_turns import PolicyTurns
from remora.remote.server.recipes import Recipes
from remora.remote.server.segments import Plans, Segments
from remora.remote.server.sessions import Sessions
from remora.remote.server.streams import Streams, streams_for
from remora.remote.server.weights import WeightStore
from remora.remote.server.weights_on_disk import WeightFolder
from remora.share.policies.contract import Policy
from remora.share.policies.registry import Choice, create
from remora.share.slicing.cache import Cache


class Quotas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that a server gives away. 0 takes what fits its memory: half of it for weights, a
    quarter each for sessions and calls, an eighth for tensors.
    """

    weights_bytes: int = 0
    sessions_bytes: int = 0
    call_bytes: int = 0
    """All values of one call at a time."""
    host_bytes: int = 0
    """Sessions that a device other than the host itself has no room for. 0 takes a quarter of the
    host's memory."""
    tensors_bytes: int = 0
    """What programs keep here tensor by tensor, and what their operators make meanwhile."""
    sessions: int = 4096
    lease_s: float = 600.0
    """A session that is not used for so long is dropped."""
    idle_s: float = 1.0
    """One that was used within that time is not dropped because another needs its room."""
    chunk_tokens: int = 128
    """How much of a prompt is read before others have their turn."""
    together: int = 16
    """Sequences that decode at a time."""
    waiting: int = 1024
    """Requests that may wait."""


class House:
    """Everything on one device.

    Args:
        policy: who runs next; without one all take fair turns.
        most_high: high-priority clients there may be at a time; 0 for any number.
        best_effort_sms: multiprocessors of a GPU that best-effort units may use; 0 for all.
        slices_folder: where it is kept how operators are cut, for the next server.
        said: told in words, once each, of operators that run longer than the policy wants.

    Raises:
        BadValue: a number of high-priority clients, or of multiprocessors, without a policy.
        Unavailable: there is no such device, or no such part of it.
    """

    def __init__(
        self,
        device: torch.device,
        quotas: Quotas | None = None,
        clock: Clock | None = None,
        folder: WeightFolder | None = None,
        builders: Mapping[str, Builder] | None = None,
        compiler: Compiler | None = None,
        policy: Choice | None = None,
        most_high: int = 0,
        best_effort_sms: int = 0,
        slices_folder: Path | None = None,
        said: Callable[[str], object] = lambda words: None,
    ) -> None:
        if most_high < 0 or (most_high and policy is None):
            raise BadValue(
                f"at most {most_high} high-priority clients: that needs a policy, such as "
                "priority, and a number of 1 or more; 0 is any number"
            )
        if best_effort_sms and policy is None:
            raise BadValue(
                f"--best-effort-sms {best_effort_sms}: without a policy there is no best effort; "
                "add --policy, such as priority+min-wait"
            )
        quotas = _filled(quotas or Quotas(), device)
        self.device, self.quotas, self.clock = device, quotas, clock or SystemClock()
        self.weights = WeightStore(device, quotas.weights_bytes, folder)
        self.compiler = compiler
        self.models = Models(self.weights, call_bytes=quotas.call_bytes, compiler=compiler)
        self.recipes = Recipes(registry(builders or {}), self.weights, self.models)
        idle_ns = round(quotas.idle_s * 1e9)
        eviction = Eviction(device, quotas.sessions_bytes, quotas.host_bytes, idle_ns)
        self.sessions = Sessions(eviction, self.clock, lease_s=quotas.lease_s, most=quotas.sessions)
        self.room = Room(quotas.tensors_bytes)
        self.plans = Plans(device)
        self.clients = Clients(has_classes=policy is not None, most_high=most_high)
        chosen = None if policy is None else create(policy.name, policy.options, capacity=1)
        cache = None if slices_folder is None else Cache(slices_folder, report=said)
        self._cuts = None if chosen is None else cuts_for(chosen, cache, said)
        turns = (
            self._fair()
            if chosen is None
            else self._by(chosen, self._cuts, streams_for(device, best_effort_sms))
        )
        self.engine = Engine(turns, self.sessions, most_waiting=quotas.waiting)

    def _fair(self) -> FairTurns:
        quotas = self.quotas
        return FairTurns(
            self.sessions,
            self.device,
            self.clock,
            chunk_tokens=quotas.chunk_tokens,
            together=quotas.together,
        )

    def _by(self, policy: Policy, cuts: Cuts | None, streams: Streams) -> PolicyTurns:
        courses = Courses(
            self.sessions,
            self.device,
            self.clock,
            chunk_tokens=self.quotas.chunk_tokens,
            cuts=cuts,
        )
        turns = PolicyTurns(policy, courses.of, self.sessions, self.clock, streams)
        if cuts is not None:
            cuts.watch.is_wanted = turns.is_wanted
        return turns

    def segments(self) -> Segments:
        """For one connection more."""
        return Segments(self.plans, self.room, self.weights, self.clock, self.device)

    def handles(self) -> Handles:
        """What one connection more keeps of the outputs of its calls."""
        return Handles(self.room, self.weights)

    def is_idle(self) -> bool:
        """Whether nobody waits for the device."""
        return self.engine.waiting == 0

    def counts(self) -> Mapping[str, int]:
        """What is here now."""
        return {
            "weights": len(self.weights),
            "weights_bytes": self.weights.held_bytes,
            "models": len(self.models),
            "sessions": len(self.sessions),
            "sessions_bytes": self.sessions.held_bytes,
            "sessions_host_bytes": self.sessions.host_bytes,
            "sessions_dropped": self.sessions.dropped,
            "tensors": self.room.handles,
            "tensors_bytes": self.room.held_bytes,
            "plans": len(self.plans),
            "waiting": self.engine.waiting,
            "operators_known": 0 if self._cuts is None else self._cuts.known,
        }

    def close(self) -> None:
        """Stop computing."""
        self.engine.close()
        if self.compiler is not None:
            self.compiler.close()


def _filled(quotas: Quotas, device: torch.device) -> Quotas:
    memory = memory_bytes(device)
    return msgspec.structs.replace(
        quotas,
        weights_bytes=quotas.weights_bytes or memory // 2,
        sessions_bytes=quotas.sessions_bytes or memory // 4,
        call_bytes=quotas.call_bytes or memory // 4,
        host_bytes=quotas.host_bytes or _host_bytes(device),
        tensors_bytes=quotas.tensors_bytes or memory // 8,
    )


def _host_bytes(device: torch.device) -> int:
    return 0 if device.type == "cpu" else memory_bytes(HOST) // 4


def memory_bytes(device: torch.device) -> int:
    """How much memory ``device`` has."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)
