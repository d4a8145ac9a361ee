"""ONNX files written by hand."""

import numpy as np


def message(*fields: tuple[int, object]) -> bytes:
    """Protocol-buffer bytes of (number, int | bytes | str) fields."""

    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            data = value.encode() if isinstance(value, str) else value
            parts.append(varint(number << 3 | 2) + varint(len(data)) + data)
    return b"".join(parts)


def onnx_model(weights: dict[str, np.ndarray], shape: tuple[int, ...], pooled: bool = True) -> bytes:
    """ONNX: mean over the picture (else all values in a row), then an output of each of the weights (values, channels),
    named by its layer."""

    def value(name, *dims):
        shape = message(*((1, message((1, n))) for n in dims))
        return message((1, name), (2, message((1, message((1, 1), (2, shape))))))

    transpose = message((1, "transB"), (3, 1), (20, 2))
    pool = [message((1, "x"), (2, "m"), (4, "GlobalAveragePool"))] if pooled else []
    nodes = [*pool, message((1, "m" if pooled else "x"), (2, "f"), (4, "Flatten"))]
    tensors, outputs = [], []
    for name, weight in weights.items():
        data = np.ascontiguousarray(weight, np.float32)
        nodes.append(message((1, "f"), (1, f"w {name}"), (2, f"y {name}"), (3, name), (4, "Gemm"), (5, transpose)))
        dims = ((1, size) for size in data.shape)
        tensors.append(message(*dims, (2, 1), (8, f"w {name}"), (9, data.tobytes())))
        outputs.append(value(f"y {name}", 1, len(data)))
    graph = message(
        *((1, node) for node in nodes), (2, "g"), *((5, tensor) for tensor in tensors),
        (11, value("x", *shape)), *((12, output) for output in outputs),
    )  # fmt: skip
    return message((1, 8), (7, graph), (8, message((1, ""), (2, 13))))


def onnx_convolution(kernel: np.ndarray, length: int) -> bytes:
    """ONNX: (1, length) sound -> (1, steps, channels, 1), each step a product of (size,) samples with kernel
    (channels, size), one after another."""
    channels, size = kernel.shape

    def whole(name, *values):
        return message((1, name), *((8, n) for n in values), (20, 7))

    def value(name, *dims):
        sizes = message(*((1, message((1, n))) for n in dims))
        return message((1, name), (2, message((1, message((1, 1), (2, sizes))))))

    shape = np.array([1, 1, 1, length], np.int64)
    nodes = (
        message((1, "x"), (1, "shape"), (2, "r"), (4, "Reshape")),
        message((1, "r"), (1, "w"), (2, "c"), (4, "Conv"), (5, whole("kernel_shape", 1, size)),
                (5, whole("strides", 1, size)), (5, whole("pads", 0, 0, 0, 0))),
        message((1, "c"), (2, "y"), (4, "Transpose"), (5, whole("perm", 0, 3, 1, 2))),
    )  # fmt: skip
    data = np.ascontiguousarray(kernel, np.float32)
    tensors = (
        message((1, 4), (2, 7), (8, "shape"), (9, shape.tobytes())),
        message((1, channels), (1, 1), (1, 1), (1, size), (2, 1), (8, "w"), (9, data.tobytes())),
    )
    graph = message(
        *((1, node) for node in nodes), (2, "g"), *((5, tensor) for tensor in tensors), (11, value("x", 1, length)),
        (12, value("y", 1, length // size, channels, 1)),
    )  # fmt: skip
    return message((1, 8), (7, graph), (8, message((1, ""), (2, 13))))
