"""A YAML file that says which experiment to run, on which workloads, with which baselines."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

import msgspec

from remora.core.errors import BadValue, Unavailable, UnknownName
from remora.lab.design import Design
from remora.systems import registry as systems
from remora.workloads import registry as workloads


class SuiteConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file may hold; nothing else."""

    experiment: str
    workloads: tuple[str, ...] = ()
    """All of the experiment's own, where none is named."""
    baselines: tuple[str, ...] = ()
    """Rows of the experiment, or systems; likewise."""


def read_config(path: Path, design: Design) -> SuiteConfig:
    """The configuration in ``path``, for ``design``.

    Raises:
        BadValue: it cannot be read, is no YAML, has a key that it may not have or is for another
            experiment.
        UnknownName: a workload or baseline that does not exist.
        Unavailable: PyYAML is not installed.
    """
    if find_spec("yaml") is None:
        raise Unavailable("--config needs PyYAML, which is not installed; run: pip install pyyaml")
    try:
        config = msgspec.yaml.decode(path.read_bytes(), type=SuiteConfig)
    except OSError as error:
        raise BadValue(f"--config {path} cannot be read: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise BadValue(f"--config {path} is not as it should be: {error}; {_FORM}") from error
    except msgspec.DecodeError as error:
        problem = " ".join(str(error).split())
        raise BadValue(f"--config {path} is no YAML: {problem}; {_FORM}") from error
    _check(config, path, design)
    return config


_FORM = "write experiment: NAME, and lists under workloads: and baselines:"


def _check(config: SuiteConfig, path: Path, design: Design) -> None:
    if config.experiment != design.name:
        raise BadValue(
            f"--config {path} is for the experiment {config.experiment!r}; "
            f"run it with: remora bench {config.experiment} --config {path}"
        )
    known = set(workloads.names())
    called = {name for name, meant in design.aliases.items() if meant in known}
    rows = {*design.aliases.keys() - called, *design.named_rows(), *systems.names()}
    _known("workload", config.workloads, known | called)
    _known("baseline", config.baselines, rows)


def _known(kind: str, names: Collection[str], valid: Collection[str]) -> None:
    for name in names:
        if name not in valid:
            raise UnknownName(kind, name, sorted(valid))
