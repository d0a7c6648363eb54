"""Where one step's requests spend their time, as counts: asked for once, after all is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from remora.remote.client.profile import CallProfile
from remora.remote.messages import Profile

PREFIX = "profile_"


def of_call(profile: CallProfile) -> Mapping[str, float]:
    """A call's parts in milliseconds: here, on the way, and there."""
    executor_ns = profile.plan_ns + profile.placement_ns + profile.execute_ns + profile.output_ns
    server_ns = profile.queue_ns + executor_ns + profile.cleanup_ns
    return _in_ms(
        {
            "client_serialize": profile.serialize_ns,
            "client_network_c2s": profile.network_out_ns,
            "client_network_s2c": profile.network_back_ns,
            "client_deserialize": profile.deserialize_ns,
            "server_duration": server_ns,
            "server_executor_time": executor_ns,
            "server_queue_latency": profile.queue_ns,
            "server_plan": profile.plan_ns,
            "server_placement": profile.placement_ns,
            "server_execution": profile.execute_ns,
            "server_output": profile.output_ns,
            "server_cleanup": profile.cleanup_ns,
        }
    )


def of_tokens(profiles: Sequence[Profile]) -> Mapping[str, float]:
    """What a step's tokens took there, all together; what is streamed has no time of its own here
    or on the way."""
    if not profiles:
        return {}
    sums = {
        "server_queue_latency": sum(each.queue_ns for each in profiles),
        "server_plan": sum(each.plan_ns for each in profiles),
        "server_placement": sum(each.placement_ns for each in profiles),
        "server_execution": sum(each.execute_ns for each in profiles),
        "server_output": sum(each.output_ns for each in profiles),
        "server_cleanup": sum(each.cleanup_ns for each in profiles),
    }
    whole = sum(sums.values())
    executor = whole - sums["server_queue_latency"] - sums["server_cleanup"]
    return _in_ms({**sums, "server_duration": whole, "server_executor_time": executor})


def _in_ms(parts: Mapping[str, int]) -> Mapping[str, float]:
    return {f"{PREFIX}{name}_ms": ns / 1e6 for name, ns in parts.items()}
