"""A pre-norm transformer encoder in five GPU kernels per layer, for the sampler on one GPU.

One window is so little work that a GPU's time goes into the number of its kernels: XLA makes fifteen of a layer. Here
they are five: (normalise, q/k/v), attention, (project, add), (normalise, expand, GELU), (contract, add), written in
Pallas for its Triton back end. Products are of bfloat16, sums and softmax float32, as in
`models.transformer.EncoderLayer`, whose parameters `fuse_layer` prepares.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

EPSILON = 1e-5  # of LayerNorm
BLOCK = 32


class Product(NamedTuple):
    """x @ kernel + bias; with `sums`, the float32 column sums of the kernel, of a normalised x.

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


class Rows(NamedTuple):
    """Rows and, for the next LayerNorm, their sums and sums of squares, each in parts that are to be added."""

    x: Float[Array, "rows width"]
    moments: Float[Array, "2 parts rows"]


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
    """The layers one after the other. `interpret` runs the kernels without a GPU, slowly."""
    batch, time, width = x_BTC.shape
    padded = max(pl.next_power_of_2(time), 16)
    x_MC = jnp.pad(x_BTC, ((0, 0), (0, padded - time), (0, 0))).reshape(batch * padded, width)
    exact = x_MC.astype(jnp.float32)
    rows = Rows(x_MC, jnp.stack([exact.sum(1), jnp.square(exact).sum(1)])[:, None])
    for layer in layers:
        qkv_MC = normalised_product(rows, layer.qkv, interpret=interpret)
        y_MC = attention(qkv_MC, heads, padded, time, interpret=interpret)
        rows = added_product(y_MC, layer.out, rows.x, interpret=interpret)
        hidden_MF = normalised_product(rows, layer.expand, gelu=True, interpret=interpret)
        rows = added_product(hidden_MF, layer.contract, rows.x, interpret=interpret)
    return rows.x.reshape(batch, padded, width)[:, :time]


class Tile(NamedTuple):
    """What one block of threads makes, and how."""

    rows: int
    columns: int
    depth: int  # of one step
    warps: int
    stages: int  # steps whose operands are on their way at once


def tile_of(rows: int, columns: int, depth: int) -> Tile:
    """Of a product (rows, depth) @ (depth, columns)."""

    def largest(size, most):
        return min(most, size & -size)

    return Tile(largest(rows, 64), largest(columns, 64), largest(depth, 64), 4, 3)


def normalised_product(
    rows: Rows, weights: Product, *, gelu: bool = False, interpret: bool = False
) -> Float[Array, "rows out"]:
    """LayerNorm(x) @ kernel + bias, perhaps its GELU; in the type of x."""
    (size, depth), columns = rows.x.shape, weights.kernel.shape[1]
    tile = tile_of(size, columns, depth)
    along = pl.BlockSpec((tile.columns,), lambda i, j: (j,))
    return pl.pallas_call(
        functools.partial(_normalised_kernel, depth, tile.depth, gelu),
        grid=(size // tile.rows, columns // tile.columns),
        in_specs=[
            *_operands(tile, depth),
            along,
            along,
            pl.BlockSpec((2, rows.moments.shape[1], tile.rows), lambda i, j: (0, 0, i)),
        ],
        out_specs=pl.BlockSpec((tile.rows, tile.columns), lambda i, j: (i, j)),
        out_shape=jax.ShapeDtypeStruct((size, columns), rows.x.dtype),
        compiler_params=triton.CompilerParams(num_warps=tile.warps, num_stages=tile.stages),
        interpret=interpret,
        name="normalised_product" if not gelu else "gelu_product",
    )(rows.x, weights.kernel, weights.bias, weights.sums, rows.moments)


def added_product(
    x_MK: Float[Array, "rows in"], weights: Product, residual_MC: Float[Array, "rows out"], interpret: bool = False
) -> Rows:
    """residual + x @ kernel + bias."""
    (size, depth), columns = x_MK.shape, weights.kernel.shape[1]
    tile = tile_of(size, columns, depth)
    down = pl.BlockSpec((tile.rows, tile.columns), lambda i, j: (i, j))
    parts = columns // tile.columns
    x, moments = pl.pallas_call(
        functools.partial(_added_kernel, depth, tile.depth),
        grid=(size // tile.rows, parts),
        in_specs=[*_operands(tile, depth), pl.BlockSpec((tile.columns,), lambda i, j: (j,)), down],
        out_specs=[down, pl.BlockSpec((2, None, tile.rows), lambda i, j: (0, j, i))],
        out_shape=[
            jax.ShapeDtypeStruct((size, columns), x_MK.dtype),
            jax.ShapeDtypeStruct((2, parts, size), jnp.float32),
        ],
        compiler_params=triton.CompilerParams(num_warps=tile.warps, num_stages=tile.stages),
        interpret=interpret,
        name=f"added_product_{depth}",
    )(x_MK, weights.kernel, weights.bias, residual_MC)
    return Rows(x, moments)


def _operands(tile: Tile, depth: int) -> list[pl.BlockSpec]:
    return [
        pl.BlockSpec((tile.rows, depth), lambda i, j: (i, 0)),
        pl.BlockSpec((depth, tile.columns), lambda i, j: (0, j)),
    ]


def _product(x_ref, kernel_ref, depth, block_depth):
    def step(k, total):
        part = pl.ds(k * block_depth, block_depth)
        return total + triton.dot(x_ref[:, part], kernel_ref[part, :])

    zero = jnp.zeros((x_ref.shape[0], kernel_ref.shape[1]), jnp.float32)
    return jax.lax.fori_loop(0, depth // block_depth, step, zero)


def _normalised_kernel(depth, block_depth, gelu, x_ref, kernel_ref, bias_ref, sums_ref, moments_ref, out_ref):
    y = _product(x_ref, kernel_ref, depth, block_depth)
    mean, square = moments_ref[0].sum(0) / depth, moments_ref[1].sum(0) / depth
    scale = jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0.0) + EPSILON)
    y = (y - mean[:, None] * sums_ref[...][None, :]) * scale[:, None] + bias_ref[...][None, :]
    if gelu:
        y = 0.5 * y * (1.0 + _erf(y * 0.5**0.5))
    out_ref[...] = y.astype(out_ref.dtype)


def _added_kernel(depth, block_depth, x_ref, kernel_ref, bias_ref, residual_ref, out_ref, moments_ref):
    y = _product(x_ref, kernel_ref, depth, block_depth)
    y = (residual_ref[...].astype(jnp.float32) + y + bias_ref[...][None, :]).astype(out_ref.dtype)
    out_ref[...] = y
    y = y.astype(jnp.float32)
    moments_ref[0] = y.sum(1)
    moments_ref[1] = (y * y).sum(1)


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
    q, k, v = q_ref[...], k_ref[...], v_ref[...]  # all on their way before anything waits
    logits = scale * triton.dot(q, k, trans_b=True)
    known = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1) < time
    logits = jnp.where(known, logits, -jnp.inf)
    weights = jnp.exp(logits - logits.max(1, keepdims=True))
    weights = (weights / weights.sum(1, keepdims=True)).astype(v.dtype)
    out_ref[...] = triton.dot(weights, v).astype(out_ref.dtype)
