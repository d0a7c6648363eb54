"""A device writes to memory that processes share: stream memory operations of CUDA's driver API.

The page is registered with the driver (``cuMemHostRegister``), which gives it an address on the
device, and ``cuStreamWriteValue32`` writes a number there behind what a stream has been given. The
second versions of both are meant: of stream memory operations the first is off by default. Whether
it works is found out by one such write. It does not where the page is not of a file in memory
(tmpfs): newer kernels pin no other for a device to write to.
"""

from __future__ import annotations

import ctypes
import secrets
import time
from typing import Any

from remora.core.errors import Unavailable

PAGE_BYTES = 4096
_PORTABLE_AND_MAPPED = 0x01 | 0x02
_ALREADY_REGISTERED = 712
_PATIENCE_S = 1.0
_SPARE_AT = PAGE_BYTES - 256
"""From here on nobody keeps anything: each process tries on a word of its own."""


class StreamWrites:
    """Writes to one page.

    Args:
        address: of the page in this process.
        stream: to try it on; its context is current.
        library: the driver's own, loaded here if None.

    Raises:
        Unavailable: it does not work here; the message says what failed.
    """

    def __init__(self, address: int, stream: int, library: Any = None) -> None:
        self._library = library or _loaded()
        self._address = address
        _declare(self._library)
        self._check(
            "cuMemHostRegister",
            self._library.cuMemHostRegister_v2(address, PAGE_BYTES, _PORTABLE_AND_MAPPED),
            _ALREADY_REGISTERED,
        )
        found = ctypes.c_uint64()
        self._check(
            "cuMemHostGetDevicePointer",
            self._library.cuMemHostGetDevicePointer_v2(ctypes.byref(found), address, 0),
        )
        self._on_device = found.value
        self._try(stream)

    def write(self, stream: int, address: int, value: int) -> None:
        """The number at ``address`` in this process becomes ``value`` behind what ``stream`` has.

        Raises:
            Unavailable: the driver refuses.
        """
        there = self._on_device + address - self._address
        self._check(
            "cuStreamWriteValue32",
            self._library.cuStreamWriteValue32_v2(stream, there, value, 0),
        )

    def _try(self, stream: int) -> None:
        at = self._address + _SPARE_AT + 4 * secrets.randbelow((PAGE_BYTES - _SPARE_AT) // 4)
        value = secrets.randbits(31) + 1
        word = ctypes.c_uint32.from_address(at)
        self.write(stream, at, value)
        until_s = time.monotonic() + _PATIENCE_S
        while word.value != value:
            if time.monotonic() > until_s:
                raise Unavailable("cuStreamWriteValue32: what was written did not arrive")
            time.sleep(0.0001)

    def _check(self, what: str, result: int, *fine: int) -> None:
        if result not in (0, *fine):
            raise Unavailable(f"{what}: the driver says {result}")


def _loaded() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise Unavailable(f"CUDA's driver library: {error}") from None


def _declare(library: Any) -> None:
    """Tell ctypes what the functions take; all return a CUresult.

    ``CUstream`` is a pointer and ``CUdeviceptr`` a number of 64 bits.

    Raises:
        Unavailable: one of them is not there.
    """
    pointer, number, whole = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint
    arguments = {
        "cuMemHostRegister_v2": [pointer, ctypes.c_size_t, whole],
        "cuMemHostGetDevicePointer_v2": [ctypes.POINTER(number), pointer, whole],
        "cuStreamWriteValue32_v2": [pointer, number, ctypes.c_uint32, whole],
    }
    for name, types in arguments.items():
        function = getattr(library, name, None)
        if function is None:
            raise Unavailable(f"{name}: this driver has none")
        function.argtypes, function.restype = types, ctypes.c_int
