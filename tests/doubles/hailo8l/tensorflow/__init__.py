"""A stand-in for the one thing that is asked of TensorFlow: which GPUs it sees (HAILO_DOUBLE_GPUS, none by default).

Hailo's environment wants the SDK imported before TensorFlow: the other way round is refused here.
"""

import os
import sys

NPUMAKE_DOUBLE = True

assert "hailo_sdk_client" in sys.modules, "hailo_sdk_client has to be imported before tensorflow"


class config:  # noqa: N801 - TensorFlow's own name
    @staticmethod
    def list_physical_devices(device_type=None):
        assert device_type == "GPU"
        return [f"/physical_device:GPU:{n}" for n in range(int(os.environ.get("HAILO_DOUBLE_GPUS", "0")))]
