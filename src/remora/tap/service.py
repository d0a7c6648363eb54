"""The contract of a service: something that rides along with a job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from remora.tap.job import Job


class Service(ABC):
    """Rides along with a job. ``tests/conformance/test_service.py`` holds every service to this.

    A service that fails never takes the job down unless the user asked for that
    (``Job(strict=True)``): the job detaches it, says why once, and goes on.
    """

    name: ClassVar[str]

    @abstractmethod
    def attach(self, job: Job) -> None:
        """Subscribe to the job's taps."""

    @abstractmethod
    def detach(self) -> None:
        """Unsubscribe and leave no trace. Calling it twice does no harm."""

    def finish(self) -> None:  # noqa: B027  most services have nothing to say at the end
        """The job has ended, well or badly: say what there is to say. Called before detach."""
