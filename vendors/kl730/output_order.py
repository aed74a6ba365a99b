"""Which output is which: the compiler may change their order, and the simulator may not take one by names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from failure import VendorError
from job_file import Tensor


def by_name_or_shape(
    arrays: Sequence[np.ndarray], names: Sequence[str] | None, outputs: Sequence[Tensor], source: str
) -> dict[str, np.ndarray]:
    """The arrays by ONNX output name, float32 of the outputs' shapes.

    names: what the source calls the arrays, where it does; else, or where the names are others, shapes decide.
    Raises VendorError when neither tells them apart.
    """
    wanted = [tensor.name for tensor in outputs]
    found = "; ".join(
        f"{(names[index] if names else '') or 'nameless'} {list(array.shape)}" for index, array in enumerate(arrays)
    )
    hint = f"expected: {'; '.join(f'{tensor.name} {list(tensor.shape)}' for tensor in outputs)}"
    if len(arrays) != len(outputs):
        raise VendorError(f"{source} gives {len(arrays)} outputs, not {len(outputs)}: {found}", hint)
    if names and sorted(names) == sorted(wanted):
        ordered = [arrays[list(names).index(name)] for name in wanted]
    else:
        ordered = _by_shape(arrays, outputs, f"{source} gives {found}", hint)
    result = {}
    for index, tensor in enumerate(outputs):
        if ordered[index].size != np.prod(tensor.shape):
            raise VendorError(f"{source} gives {tensor.name} of shape {list(ordered[index].shape)}", hint)
        result[tensor.name] = np.ascontiguousarray(ordered[index], np.float32).reshape(tensor.shape)
    return result


def _by_shape(arrays: Sequence[np.ndarray], outputs: Sequence[Tensor], found: str, hint: str) -> list[np.ndarray]:
    if len(arrays) == 1:
        return list(arrays)
    by_shape = {array.shape: array for array in arrays}
    if len(by_shape) != len(arrays):
        raise VendorError(f"{found}: neither names nor shapes tell these outputs apart", hint)
    missing = [tensor.name for tensor in outputs if tensor.shape not in by_shape]
    if missing:
        raise VendorError(f"{found}: none of them has the shape of {missing[0]}", hint)
    return [by_shape[tensor.shape] for tensor in outputs]
