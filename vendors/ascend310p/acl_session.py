"""An .om on the NPU by pyACL, the runtime's own Python interface, which comes with CANN.

Calls, argument orders and constants: "pyACL API reference" (CANN 8.5). Most functions give (value, error code) or an
error code alone; 0 is success. Pointers are plain integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from failure import VendorError
from om_json import GEARS

DEVICE = 0  # ASCEND_RT_VISIBLE_DEVICES says which card that is
HUGE_FIRST = 0  # ACL_MEM_MALLOC_HUGE_FIRST
TO_DEVICE, TO_HOST = 1, 2  # ACL_MEMCPY_HOST_TO_DEVICE, ACL_MEMCPY_DEVICE_TO_HOST
TYPES = {0: np.float32, 1: np.float16, 2: np.int8, 3: np.int32, 4: np.uint8}  # aclDataType
DRIVER_HINT = "npu-smi info has to show the card; the errors are in ~/ascend/log, by their codes in the pyACL reference"


def check(code: int, call: str) -> None:
    """VendorError, with the call and its code, unless it succeeded."""
    if code != 0:
        raise VendorError(f"acl.{call} failed with {code}", DRIVER_HINT)


class AclSession:
    """A loaded .om with its buffers on the device."""

    def __init__(self, acl: Any, path: Path):
        """Raises VendorError when a call fails: no card, no driver, or an .om for another chip or of a newer CANN."""
        self._acl = acl
        self._data: list[tuple[int, int]] = []  # of all buffers: (data buffer, device memory)
        check(acl.init(), "init()")
        check(acl.rt.set_device(DEVICE), f"rt.set_device({DEVICE})")
        self.soc = str(acl.get_soc_name())
        self._model, code = acl.mdl.load_from_file(str(path))
        check(code, f"mdl.load_from_file({path.name})")
        self._description = acl.mdl.create_desc()
        check(acl.mdl.get_desc(self._description, self._model), "mdl.get_desc()")
        count = acl.mdl.get_num_inputs(self._description)
        names = [acl.mdl.get_input_name_by_index(self._description, index) for index in range(count)]
        sizes = [acl.mdl.get_input_size_by_index(self._description, index) for index in range(count)]
        self._inputs = self._dataset(sizes)
        self._image = next(index for index, name in enumerate(names) if name != GEARS)
        self._image_bytes = sizes[self._image]
        outputs = range(acl.mdl.get_num_outputs(self._description))
        self.output_names = [acl.mdl.get_output_name_by_index(self._description, index) for index in outputs]
        self._types = [acl.mdl.get_output_data_type(self._description, index) for index in outputs]
        self._output_sizes = [acl.mdl.get_output_size_by_index(self._description, index) for index in outputs]
        self._first_output = len(self._data)
        self._outputs = self._dataset(self._output_sizes)

    def _dataset(self, sizes: list[int]) -> int:
        acl = self._acl
        dataset = acl.mdl.create_dataset()
        for size in sizes:
            memory, code = acl.rt.malloc(size, HUGE_FIRST)
            check(code, f"rt.malloc({size})")
            buffer = acl.create_data_buffer(memory, size)
            _, code = acl.mdl.add_dataset_buffer(dataset, buffer)
            check(code, "mdl.add_dataset_buffer()")
            self._data.append((buffer, memory))
        return int(dataset)

    def run(self, image: np.ndarray, batch: int | None = None, size: tuple[int, int] | None = None) -> list[np.ndarray]:
        """One inference. image: contiguous, of the .om's own type and layout. batch, size: which of an .om's batches or
        (height, width) it is, where it has several. Gives the outputs as the .om has them, in its order."""
        acl = self._acl
        fixed = batch is None and size is None
        if image.nbytes > self._image_bytes or (fixed and image.nbytes != self._image_bytes):
            raise VendorError(
                f"an input of {image.dtype} {list(image.shape)} is {image.nbytes} bytes, and the .om takes "
                f"{self._image_bytes}",
                "compile again: compile.json and the .om do not belong together",
            )
        if not fixed:
            index, code = acl.mdl.get_input_index_by_name(self._description, GEARS)
            check(code, f"mdl.get_input_index_by_name({GEARS})")
            if size is not None:
                code = acl.mdl.set_dynamic_hw_size(self._model, self._inputs, index, *size)
                check(code, f"mdl.set_dynamic_hw_size({size[0]}, {size[1]})")
            else:
                check(
                    acl.mdl.set_dynamic_batch_size(self._model, self._inputs, index, batch),
                    f"mdl.set_dynamic_batch_size({batch})",
                )
        memory = self._data[self._image][1]
        check(
            acl.rt.memcpy(memory, self._image_bytes, image.ctypes.data, image.nbytes, TO_DEVICE),
            "rt.memcpy() of the input",
        )
        check(acl.mdl.execute(self._model, self._inputs, self._outputs), "mdl.execute()")
        return [self._output(index) for index in range(len(self.output_names))]

    def _output(self, index: int) -> np.ndarray:
        dimensions, code = self._acl.mdl.get_cur_output_dims(self._description, index)
        check(code, f"mdl.get_cur_output_dims({index})")
        kind = self._types[index]
        if kind not in TYPES:
            raise VendorError(f"output {index} of the .om is of acl's type {kind}", "compile with --output_type=FP32")
        array = np.empty(tuple(int(size) for size in dimensions["dims"]), TYPES[kind])
        size, memory = self._output_sizes[index], self._data[self._first_output + index][1]
        if array.nbytes > size:
            raise VendorError(f"output {index} of {list(array.shape)} does not fit into its {size} bytes", DRIVER_HINT)
        check(
            self._acl.rt.memcpy(array.ctypes.data, array.nbytes, memory, array.nbytes, TO_HOST),
            "rt.memcpy() of an output",
        )
        return array

    def close(self) -> None:
        """Give everything back. What fails here is not worth a message: the process ends."""
        acl = self._acl
        for buffer, memory in self._data:
            acl.destroy_data_buffer(buffer)
            acl.rt.free(memory)
        for dataset in (self._inputs, self._outputs):
            acl.mdl.destroy_dataset(dataset)
        acl.mdl.unload(self._model)
        acl.mdl.destroy_desc(self._description)
        acl.rt.reset_device(DEVICE)
        acl.finalize()
