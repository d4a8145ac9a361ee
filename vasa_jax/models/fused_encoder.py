"""A pre-norm transformer encoder in five GPU kernels per layer, for the sampler on one GPU.

One window is so little work that a GPU spends its time between kernels: XLA makes fifteen of a layer. Here it takes
five: (normalise, q/k/v), attention, (project, add), (normalise, expand, GELU), (contract, add), written in Pallas for
its Triton back end. Products are of bfloat16, sums and softmax float32, as in `models.transformer.EncoderLayer`, whose
parameters `fuse_layer` prepares.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

EPSILON = 1e-5  # of LayerNorm
LONGEST = 256  # tokens; a row of attention is held at once
BLOCK = 32


class Product(NamedTuple):
    """x @ kernel + bias, bfloat16; with `sums`, the float32 column sums of the kernel, of a normalised x.

    A LayerNorm's scale and offset are part of kernel and bias then, and (x - mean) / deviation is applied to the
    product: (x @ kernel - mean * sums) / deviation + bias.
    """

    kernel: Float[Array, "in out"]
    bias: Float[Array, "out"]
    sums: Float[Array, "out"] | None = None


class FusedLayer(NamedTuple):
    """What the kernels of one layer read."""

    qkv: Product  # normalised
    out: Product
    expand: Product  # normalised
    contract: Product


def fuse_layer(layer: dict[str, Any], dtype: jnp.dtype = jnp.bfloat16) -> FusedLayer:
    """Parameters of a pre-norm `EncoderLayer` without a condition."""
    attention, feed_forward = layer["attention"], layer["feed_forward"]
    qkv = [attention[name] for name in ("q_proj", "k_proj", "v_proj")]
    joined = {name: jnp.concatenate([part[name] for part in qkv], axis=-1) for name in ("kernel", "bias")}
    return FusedLayer(
        qkv=_normalised(layer["layer_norm"], joined, dtype),
        out=_plain(attention["out_proj"], dtype),
        expand=_normalised(layer["final_layer_norm"], feed_forward["intermediate_dense"], dtype),
        contract=_plain(feed_forward["output_dense"], dtype),
    )


def _plain(dense: dict[str, Array], dtype: jnp.dtype) -> Product:
    return Product(dense["kernel"].astype(dtype), dense["bias"].astype(jnp.float32))


def _normalised(norm: dict[str, Array], dense: dict[str, Array], dtype: jnp.dtype) -> Product:
    kernel = dense["kernel"].astype(jnp.float32)
    bias = dense["bias"].astype(jnp.float32) + norm["bias"].astype(jnp.float32) @ kernel
    kernel = (norm["scale"].astype(jnp.float32)[:, None] * kernel).astype(dtype)
    # Sums of the kernel as it was rounded, so that a constant row of x leaves nothing behind.
    return Product(kernel, bias, kernel.astype(jnp.float32).sum(0))


def fused_encoder(
    layers: list[FusedLayer], x_BTC: Float[Array, "batch time width"], heads: int, interpret: bool = False
) -> Float[Array, "batch time width"]:
    """The layers one after the other; T is at most LONGEST. `interpret` runs the kernels without a GPU, slowly."""
    batch, time, width = x_BTC.shape
    padded = max(pl.next_power_of_2(time), 16)
    x_MC = jnp.pad(x_BTC, ((0, 0), (0, padded - time), (0, 0))).reshape(batch * padded, width)
    for layer in layers:
        qkv_MC = product(x_MC, layer.qkv, interpret=interpret)
        y_MC = attention(qkv_MC, heads, padded, time, interpret=interpret)
        x_MC = product(y_MC, layer.out, residual=x_MC, interpret=interpret)
        hidden_MF = product(x_MC, layer.expand, gelu=True, interpret=interpret)
        x_MC = product(hidden_MF, layer.contract, residual=x_MC, interpret=interpret)
    return x_MC.reshape(batch, padded, width)[:, :time]


def product(
    x_MK: Float[Array, "rows in"],
    weights: Product,
    *,
    residual: Float[Array, "rows out"] | None = None,
    gelu: bool = False,
    interpret: bool = False,
) -> Float[Array, "rows out"]:
    """residual + GELU(norm(x) @ kernel + bias), each part where it is asked for; in the type of x."""
    rows, depth = x_MK.shape
    columns = weights.kernel.shape[1]
    block_rows, block_columns, block_depth, warps, stages = _tile(rows, columns, depth)
    down = pl.BlockSpec((block_rows, block_columns), lambda i, j: (i, j))
    along = pl.BlockSpec((block_columns,), lambda i, j: (j,))
    inputs = {
        "x": (x_MK, pl.BlockSpec((block_rows, depth), lambda i, j: (i, 0))),
        "kernel": (weights.kernel, pl.BlockSpec((depth, block_columns), lambda i, j: (0, j))),
        "bias": (weights.bias, along),
    }
    if weights.sums is not None:
        inputs["sums"] = weights.sums, along
    if residual is not None:
        inputs["residual"] = residual, down
    return pl.pallas_call(
        functools.partial(_product_kernel, tuple(inputs), depth, block_depth, gelu),
        grid=(rows // block_rows, columns // block_columns),
        in_specs=[spec for _, spec in inputs.values()],
        out_specs=down,
        out_shape=jax.ShapeDtypeStruct((rows, columns), x_MK.dtype),
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=stages),
        interpret=interpret,
        name="product",
    )(*(array for array, _ in inputs.values()))


def _tile(rows: int, columns: int, depth: int) -> tuple[int, int, int]:
    def largest(size, most):
        return min(most, size & -size)

    return largest(rows, 64), largest(columns, 64), largest(depth, 64), 4, 3


def _product_kernel(names, depth, block_depth, gelu, *refs):
    inputs, out_ref = dict(zip(names, refs)), refs[-1]
    normalised = "sums" in inputs
    rows, columns = out_ref.shape

    def step(k, carry):
        total, first, second = carry
        part = pl.ds(k * block_depth, block_depth)
        x = inputs["x"][:, part]
        total += triton.dot(x, inputs["kernel"][part, :])
        if normalised:
            x = x.astype(jnp.float32)
            first, second = first + x.sum(1), second + (x * x).sum(1)
        return total, first, second

    zeros = jnp.zeros((rows,), jnp.float32)
    y, first, second = jax.lax.fori_loop(
        0, depth // block_depth, step, (jnp.zeros((rows, columns), jnp.float32), zeros, zeros)
    )
    if normalised:
        mean = first / depth
        scale = jax.lax.rsqrt(jnp.maximum(second / depth - mean * mean, 0.0) + EPSILON)
        y = (y - mean[:, None] * inputs["sums"][...][None, :]) * scale[:, None]
    y += inputs["bias"][...][None, :]
    if gelu:
        y = 0.5 * y * (1.0 + _erf(y * 0.5**0.5))
    if "residual" in inputs:
        y += inputs["residual"][...].astype(jnp.float32)
    out_ref[...] = y.astype(out_ref.dtype)


def _erf(x: Array) -> Array:
    """Within 1.5e-7 (Abramowitz and Stegun 7.1.26); the back end has no erf."""
    t = 1.0 / (1.0 + 0.3275911 * jnp.abs(x))
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return jnp.sign(x) * (1.0 - series * jnp.exp(-x * x))


def attention(
    qkv_MC: Float[Array, "rows 3*width"], heads: int, padded: int, time: int, interpret: bool = False
) -> Float[Array, "rows width"]:
    """Softmax attention among the first `time` of each `padded` rows."""
    rows, width = qkv_MC.shape[0], qkv_MC.shape[1] // 3
    batch, head_width = rows // padded, width // heads
    block = min(padded, BLOCK)
    blocks = padded // block

    def keys(part):
        return pl.BlockSpec((padded, head_width), lambda b, h, i: (b, part * heads + h))

    queries = pl.BlockSpec((block, head_width), lambda b, h, i: (b * blocks + i, h))
    return pl.pallas_call(
        functools.partial(_attention_kernel, time, head_width**-0.5),
        grid=(batch, heads, blocks),
        in_specs=[queries, keys(1), keys(2)],
        out_specs=queries,
        out_shape=jax.ShapeDtypeStruct((rows, width), qkv_MC.dtype),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
        name="attention",
    )(qkv_MC, qkv_MC, qkv_MC)


def _attention_kernel(time, scale, q_ref, k_ref, v_ref, out_ref):
    logits = scale * triton.dot(q_ref[...], k_ref[...], trans_b=True)
    known = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1) < time
    logits = jnp.where(known, logits, -jnp.inf)
    weights = jnp.exp(logits - logits.max(1, keepdims=True))
    weights = (weights / weights.sum(1, keepdims=True)).astype(v_ref.dtype)
    out_ref[...] = triton.dot(weights, v_ref[...]).astype(out_ref.dtype)
