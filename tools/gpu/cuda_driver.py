"""Device facts from the CUDA driver, through its own library, so that no package is needed."""

from __future__ import annotations

import ctypes
from typing import Any

from parts.base import Skipped

# enum CUdevice_attribute of cuda.h
_ATTRIBUTES = {
    "multiprocessors": 16,
    "memory_clock_khz": 36,
    "memory_bus_bits": 37,
    "l2_cache_bytes": 38,
    "integrated": 18,
}
_MAJOR, _MINOR = 75, 76


def require_device() -> None:
    """Refuse to go on without a CUDA device.

    Raises:
        Skipped: There is no driver, or no device.
    """
    device_facts()


def device_facts() -> dict[str, Any]:
    """Name, memory and compute capability of the first device, and the CUDA version of its driver.

    Raises:
        Skipped: There is no driver, or no device.
    """
    driver = _driver()
    device, version, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    driver("cuDriverGetVersion", ctypes.byref(version))
    driver("cuDeviceGet", ctypes.byref(device), 0)
    driver("cuDeviceGetName", name, len(name), device)
    driver("cuDeviceTotalMem_v2", ctypes.byref(size), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        driver("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    return {
        "name": name.value.decode(),
        "compute_capability": f"{attribute(_MAJOR)}.{attribute(_MINOR)}",
        "memory_bytes": size.value,
        "driver_cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
        **{fact: attribute(number) for fact, number in _ATTRIBUTES.items()},
    }


def _driver() -> Any:
    """A function that calls driver functions by name; the driver has been initialised and has a device."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise Skipped(f"There is no CUDA driver: {error}.") from error

    def call(function: str, *arguments: Any) -> None:
        status = getattr(library, function)(*arguments)
        if status != 0:
            raise Skipped(f"The CUDA driver's {function} failed with error {status}.")

    count = ctypes.c_int()
    call("cuInit", 0)
    call("cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise Skipped("The CUDA driver has no device.")
    return call
