"""What the compiler needs of the machine, asked before it is started."""

from __future__ import annotations

import platform
from pathlib import Path

from failure import VendorError


def check_processor(path: Path = Path("/proc/cpuinfo")) -> None:
    """VendorError unless the processor has AVX: the SDK's TensorFlow ends with an illegal instruction without it."""
    if platform.machine() not in ("x86_64", "AMD64"):
        raise VendorError(
            f"this machine is {platform.machine()}, and Hailo's compiler is for x86_64 only",
            "compile on a PC with Linux (or WSL2); the board itself only runs device.py",
        )
    try:
        flags = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return  # not told: the SDK will say
    if "avx" not in flags.partition(":")[2].split():
        raise VendorError(
            "this processor has no AVX, which Hailo's compiler (TensorFlow) needs",
            "use another machine; in a virtual machine, pass the host's processor through (QEMU: -cpu host)",
        )


def visible_gpus() -> int:
    """How many GPUs TensorFlow sees. Call it after the SDK was imported, which sets TensorFlow up.

    The SDK asks TensorFlow as well; an own driver check (nvidia-smi) would count GPUs that it cannot use.
    """
    try:
        import tensorflow
    except ImportError:
        return 0
    return len(tensorflow.config.list_physical_devices("GPU"))
