"""Which language models a session on the server can hold."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from remora.core.errors import CannotCapture
from remora.core.saying import say

if TYPE_CHECKING:
    from remora.remote.client.model import RemoteModel


class Keeping:
    """Tries each model once, and says so where it cannot have a session. Thread-safe."""

    def __init__(self) -> None:
        self._has_sessions: weakref.WeakKeyDictionary[RemoteModel, bool] = (
            weakref.WeakKeyDictionary()
        )
        self._guard = threading.Lock()

    def has_sessions(self, model: RemoteModel, module: Any) -> bool:
        """Whether what ``module`` keeps between tokens can stay there, where it is ``model``."""
        with self._guard:
            if model not in self._has_sessions:
                obstacle = _obstacle(model, module)
                self._has_sessions[model] = obstacle is None
                if obstacle:
                    say(f"remora: {obstacle}; the server reads its whole text for every token")
            return self._has_sessions[model]


def _obstacle(model: RemoteModel, module: Any) -> str | None:
    if module.config.is_encoder_decoder:
        name = type(module).__name__
        return f"{name} has an encoder, and a script's sessions are of models without one"
    try:
        model.try_session()
    except CannotCapture as error:
        return str(error).partition("; ")[0]
    return None
