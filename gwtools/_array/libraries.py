"""Array libraries: which one an array belongs to, its dtype and device, ways to NumPy.

No other module asks which library an array belongs to by that library's own functions,
except for the rest of this folder: everything else is written against the array-API
standard. PyTorch and JAX are looked up in ``sys.modules`` and never imported: an array
of theirs exists only where the user has imported them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeAlias

import array_api_compat as compat
import numpy as np
import numpy.typing as npt

Array: TypeAlias = Any
Namespace: TypeAlias = Any
NumpyArray: TypeAlias = npt.NDArray[Any]

# The lookup by array_api_compat takes longer than arithmetic on a small problem, which
# asks for the namespace hundreds of times.
_namespaces: dict[type, Namespace] = {}


def namespace(*arrays: Array) -> Namespace:
    """Return the array-API namespace of arrays of one library."""
    array_type = type(arrays[0])
    xp = _namespaces.get(array_type)
    if xp is None:
        xp = compat.array_namespace(*arrays)
        # Python numbers have the namespace of the arrays beside them: none of their own
        # may be remembered.
        if is_array(arrays[0]):
            _namespaces[array_type] = xp
    return xp


def is_array(value: object) -> bool:
    """Tell whether a value is an array of a library that follows the array API."""
    return bool(compat.is_array_api_obj(value))


def library(array: Array) -> str:
    """Name the array library of an array, as in an import of it."""
    module = namespace(array).__name__
    name = module.removeprefix("array_api_compat.")
    return str(name.split(".")[0])


def kind(array: Array) -> Hashable:
    """Return library, dtype and device, equal for arrays that can be combined."""
    if is_traced(array):
        # A tracer of JAX has neither the type nor the device of its values.
        array = detached(array)
    return type(array), array.dtype, getattr(array, "device", None)


def device(array: Array) -> Any:
    """Return the device of an array, also within a transformation of JAX."""
    if is_traced(array):
        array = detached(array)
    return compat.device(array)


def on_cpu(array: Array) -> bool:
    """Tell whether an array is in main memory."""
    return "cpu" in str(device(array)).lower()


def free_on_device(array: Array) -> float | None:
    """Return the free bytes of a PyTorch tensor's CUDA device; None elsewhere."""
    if not compat.is_torch_array(array) or array.device.type != "cuda":
        return None
    cuda = sys.modules["torch"].cuda
    reserved = cuda.memory_reserved(array.device)
    allocated = cuda.memory_allocated(array.device)
    # PyTorch keeps freed memory for later tensors: to the driver it is in use.
    cached = reserved - allocated
    free, _total = cuda.mem_get_info(array.device)
    return float(free + cached)


def dtype_name(array: Array) -> str:
    """Name the dtype of an array without its byte order."""
    dtype = array.dtype
    if compat.is_numpy_array(array):
        dtype = dtype.newbyteorder("=")
    return str(dtype)


def in_native_order(array: Array) -> Array:
    """Return the same numbers in the processor's byte order.

    NumPy arrays that were read from files may have the other one.
    """
    if not compat.is_numpy_array(array) or array.dtype.isnative:
        return array
    native_dtype = array.dtype.newbyteorder("=")
    return array.astype(native_dtype)


def is_integer(array: Array) -> bool:
    """Tell whether an array holds integers."""
    return bool(namespace(array).isdtype(array.dtype, "integral"))


def is_floating(array: Array) -> bool:
    """Tell whether an array holds real floating-point numbers of any precision."""
    return _is_floating(namespace(array), array.dtype)


@cache  # isdtype, too, takes longer than arithmetic on a small problem
def _is_floating(xp: Namespace, dtype: Any) -> bool:
    try:
        is_standard = bool(xp.isdtype(dtype, "real floating"))
    except TypeError:
        # NumPy cannot classify dtypes that other packages have added to it.
        return False
    return is_standard or "bfloat16" in str(dtype)


def epsilon(array: Array) -> float:
    """Return the spacing of 1.0 in the dtype of an array."""
    return _epsilon(namespace(array), array.dtype)


@cache
def _epsilon(xp: Namespace, dtype: Any) -> float:
    return float(xp.finfo(dtype).eps)


def to_numpy(array: Array) -> NumpyArray:
    """Convert to a NumPy array in main memory, outside any gradient graph.

    bfloat16, which NumPy lacks, becomes float32, which holds each of its values.
    """
    if type(array) is np.ndarray:  # small problems spend their time on questions
        return array
    if compat.is_torch_array(array):
        tensor = array.detach().cpu()
        if "bfloat16" in str(tensor.dtype):
            tensor = tensor.float()
        return np.asarray(tensor.numpy())
    if compat.is_cupy_array(array):
        return np.asarray(array.get())
    if compat.is_numpy_array(array) or compat.is_jax_array(array):
        return np.asarray(detached(array))
    return np.asarray(np.from_dlpack(array))


def from_numpy(array: NumpyArray, like: Array) -> Array:
    """Convert a NumPy array to the library and device of ``like``.

    Floating-point values take the dtype of ``like``; integers keep theirs.
    """
    xp = namespace(like)
    is_real = array.dtype.kind == "f"
    dtype = like.dtype if is_real else None
    if xp is namespace(array):
        if dtype is None:
            return array
        return array.astype(dtype, copy=False)
    # PyTorch cannot read arrays with negative strides.
    contiguous = np.asarray(array, order="C")
    return xp.asarray(contiguous, dtype=dtype, device=device(like))


def detached(array: Array) -> Array:
    """Return the values of an array outside any gradient graph."""
    if type(array) is np.ndarray:
        return array
    if compat.is_torch_array(array):
        return array.detach()
    if is_traced(array):
        return sys.modules["jax"].lax.stop_gradient(array)
    return array


def is_traced(array: Array) -> bool:
    """Tell whether an array is within a transformation of JAX, such as ``jax.grad``."""
    if not compat.is_jax_array(array):
        return False
    return isinstance(array, sys.modules["jax"].core.Tracer)


def is_abstract(array: Array) -> bool:
    """Tell whether an array has no values yet, as within ``jax.jit`` and ``jax.vmap``.

    A tracer of ``jax.grad`` alone has values.
    """
    # Without its gradient, a tracer of jax.grad is its values, one of jax.jit a tracer.
    return is_traced(array) and is_traced(detached(array))


def tracked(array: Array) -> bool:
    """Tell whether gradients with respect to an array are asked for."""
    if type(array) is np.ndarray:
        return False
    if compat.is_torch_array(array):
        return bool(array.requires_grad)
    return is_traced(array)


def kind_without_numbers(array: Array) -> str | None:
    """Name the kind of a PyTorch tensor whose entries cannot be read; else None."""
    if not compat.is_torch_array(array):
        return None
    if array.device.type == "meta":
        return "a tensor on the meta device"
    if array.is_nested:
        return "a nested tensor"
    is_batched = _functorch_predicate("is_batchedtensor")
    if is_batched is not None and is_batched(array):
        return "a tensor within torch.vmap"
    return None


def is_wrapped(array: Array) -> bool:
    """Tell whether a tensor is within ``torch.func.grad`` or the like.

    Its entries can be computed with there, but not read.
    """
    if not compat.is_torch_array(array):
        return False
    test = _functorch_predicate("is_functorch_wrapped_tensor")
    return test is not None and bool(test(array))


def _functorch_predicate(name: str) -> Callable[[Array], bool] | None:
    """Return a test of PyTorch for its function transforms; None where it has none.

    PyTorch has no public one.
    """
    functorch = getattr(sys.modules["torch"]._C, "_functorch", None)
    return getattr(functorch, name, None)
