"""The rows of ``remora bench isolation``: a job that serves, alone and beside one that trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from remora.core.errors import BadValue, UnknownName
from remora.lab.design import Chosen
from remora.lab.results import Arm, Option
from remora.systems.beside.sharing import DEFAULT, Way, executor, parse_way
from remora.workloads.contract import SCALES

SYSTEM = "beside"
ALONE = "alone"
AGAIN = "(again)"
"""In the name of the second: what it differs by is noise."""
SERVING = {
    "bert": "bert-base-forward",
    "gpt2": "gpt2-decode",
    "resnet50": "resnet50-forward",
    "llama": "llama-2-7b-decode",
}
"""What serves, by the word that ``--pairs`` has for it."""
TRAINING = {
    "bert": "bert-base-train",
    "resnet50": "resnet50-train",
    "gpt2": "gpt2-train",
    "whisper": "whisper-base-train",
    "pointnet": "pointnet-train",
    "pegasus": "pegasus-x-base-train",
}
"""What trains beside it."""


class Pair(NamedTuple):
    """Workloads by name: one that serves, one that trains."""

    serves: str
    trains: str
    trains_scale: str = ""
    """Of the one that trains, where that is not the run's: one of longer operators, say."""

    @property
    def job(self) -> str:
        """The one that trains, as its rows name it."""
        return f"{self.trains}@{self.trains_scale}" if self.trains_scale else self.trains


ALL_PAIRS = tuple(Pair(s, t) for s in SERVING.values() for t in TRAINING.values())


def parse_pairs(text: str) -> tuple[Pair, ...]:
    """``bert:resnet50,gpt2:bert`` as pairs; a name is one of the words above or a workload's.

    ``bert:resnet50@standard`` has a training of another scale than the run's.

    Raises:
        BadValue: a pair that is not two names.
        UnknownName: no such workload, or no such scale.
    """
    found = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        serves, colon, trains = (each.strip() for each in part.partition(":"))
        if not (colon and serves and trains):
            raise BadValue(
                f"--pairs {part}: write SERVES:TRAINS, such as bert:resnet50, "
                "with commas between pairs"
            )
        trains, at, scale = trains.partition("@")
        if at and scale not in SCALES:
            raise UnknownName("scale of --pairs", scale, SCALES)
        found.append(Pair(_named(serves, SERVING), _named(trains, TRAINING), scale))
    if not found:
        raise BadValue("--pairs names none; write SERVES:TRAINS, such as bert:resnet50")
    return tuple(dict.fromkeys(found))


def _named(word: str, words: dict[str, str]) -> str:
    from remora.workloads import registry

    if word in words:
        return words[word]
    if word in registry.names():
        return word
    raise UnknownName("workload of --pairs", word, words, "any of `remora list workloads`")


def rows(
    pairs: Sequence[Pair],
    policies: Sequence[str],
    loads: Sequence[float],
    scale: str,
    device: str = "cpu",
) -> tuple[Chosen, ...]:
    """Native; each workload that serves, alone twice; each pair under each policy. At each load,
    and by each executor that the policies are of."""
    ways = [parse_way(policy, device) for policy in policies]
    return (Chosen("native"), *_rows(pairs, ways, loads, scale))


def _rows(
    pairs: Sequence[Pair], ways: Sequence[Way], loads: Sequence[float], scale: str
) -> Iterator[Chosen]:
    executors = dict.fromkeys(way.executor for way in ways)
    for load in loads:
        at = f" @{load:g}" if len(loads) > 1 else ""
        for name in executors:
            yield from _alone(pairs, name, load, at)
            for way in ways:
                if way.executor == name:
                    yield from _beside(pairs, way, load, at, scale)


def _alone(pairs: Sequence[Pair], name: str, load: float, at: str) -> Iterator[Chosen]:
    serving = tuple(dict.fromkeys(pair.serves for pair in pairs))
    options: dict[str, Option] = {"load": load}
    if name != DEFAULT:
        options |= {"executor": name, "policy": executor(name).alone}
        at = f" on {name}{at}"
    for label in (f"{ALONE}{at}", f"{ALONE}{at} {AGAIN}"):
        yield Chosen(SYSTEM, options, label, workloads=serving)


def _beside(pairs: Sequence[Pair], way: Way, load: float, at: str, scale: str) -> Iterator[Chosen]:
    for job in dict.fromkeys(pair.job for pair in pairs):
        mine = [pair for pair in pairs if pair.job == job]
        options: dict[str, Option] = {
            "job": mine[0].trains,
            "job_scale": mine[0].trains_scale or scale,
            "policy": way.policy,
            "executor": way.executor,
            "load": load,
        }
        beside = tuple(pair.serves for pair in mine)
        yield Chosen(SYSTEM, options, f"{way.policy} + {job}{at}", workloads=beside)


def load_of(arm: Arm) -> float:
    return float(arm.options.get("load", 0.5))


def executor_of(arm: Arm) -> str:
    return str(arm.options.get("executor", DEFAULT))


def policy_of(arm: Arm) -> str:
    return str(arm.options.get("policy", executor(DEFAULT).alone))


def trains_of(arm: Arm) -> str:
    """The one that trains, with its scale where that is in the name of the row."""
    name = str(arm.options.get("job", ""))
    scaled = f"{name}@{arm.options.get('job_scale')}"
    return scaled if f"+ {scaled}" in arm.label else name
