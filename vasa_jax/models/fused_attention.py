"""Attention (Vaswani et al. 2017, section 3.2) of short sequences as one GPU kernel, for the sampler.

A window of the sampler is so little work that its time goes into the number of kernels. XLA makes seven of attention;
four only move queries, keys and values about. This kernel, in Pallas for its Triton back end, reads them where the
projection left them. It adds the projection's bias and keeps a row of attention to itself.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from vasa_jax.models.layers import Dtype

QUERIES = 32  # of one block of threads
KEYS = 32_768  # numbers: keys of one head that a block of threads can hold


def has_fused_attention(dtype: Dtype, time: int, head_width: int) -> bool:
    """Tells whether the default device can run `fused_attention`: an NVIDIA GPU since Ampere, in half precision.

    Sequences must fit, and heads be a power of two wide, from 16 on.
    """
    capability = str(getattr(jax.devices()[0], "compute_capability", ""))  # "9.0"; of other makes "gfx942" or none
    return (
        capability[:1].isdigit() and float(capability) >= 8.0
        and dtype in (jnp.bfloat16, jnp.float16)
        and head_width >= 16 and head_width & (head_width - 1) == 0
        and pl.next_power_of_2(time) * head_width <= KEYS
    )  # fmt: skip


def fused_attention(
    qkv_BTE: Float[Array, "batch time columns"],
    biases: Sequence[Float[Array, "width"]],
    heads: int,
    interpret: bool = False,
) -> Float[Array, "batch time width"]:
    """Computes softmax(q k / sqrt(head width)) v of every head, in the type of qkv; logits and softmax in float32.

    q, k and v are the three parts of qkv's columns, each with its bias. Sizes as in `has_fused_attention`. `interpret`
    runs the kernel without a GPU, slowly.
    """
    batch, time, width = qkv_BTE.shape[0], qkv_BTE.shape[1], qkv_BTE.shape[2] // 3
    head_width, keys = width // heads, max(pl.next_power_of_2(time), 16)
    queries = min(keys, QUERIES)

    def part(rows, number, index):
        return pl.BlockSpec((None, rows, head_width), lambda b, h, i: (b, index(i), number * heads + h))

    bias = pl.BlockSpec((head_width,), lambda b, h, i: (h,))
    mine, whole = lambda i: i, lambda i: 0
    return pl.pallas_call(
        functools.partial(_kernel, time),
        grid=(batch, heads, pl.cdiv(time, queries)),
        in_specs=[part(queries, 0, mine), part(keys, 1, whole), part(keys, 2, whole), bias, bias, bias],
        out_specs=part(queries, 0, mine),
        out_shape=jax.ShapeDtypeStruct((batch, time, width), qkv_BTE.dtype),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
        name="fused_attention",
    )(qkv_BTE, qkv_BTE, qkv_BTE, *biases)


def _kernel(time, q_ref, k_ref, v_ref, q_bias_ref, k_bias_ref, v_bias_ref, out_ref):
    queries, keys = q_ref.shape[0], k_ref.shape[0]
    mine = pl.program_id(2) * queries + jax.lax.broadcasted_iota(jnp.int32, q_ref.shape, 0) < time
    known = jax.lax.broadcasted_iota(jnp.int32, k_ref.shape, 0) < time
    # All three are on their way before anything waits for one of them.
    q, k, v = (triton.load(ref, mask=mask, other=0.0) for ref, mask in ((q_ref, mine), (k_ref, known), (v_ref, known)))
    q, k, v = (x + ref[...][None, :] for x, ref in ((q, q_bias_ref), (k, k_bias_ref), (v, v_bias_ref)))
    logits = q.shape[1] ** -0.5 * triton.dot(q, k, trans_b=True)
    unknown = jax.lax.broadcasted_iota(jnp.int32, (queries, keys), 1) >= time
    logits = jnp.where(unknown, -jnp.inf, logits)
    weights = jnp.exp(logits - logits.max(1, keepdims=True))
    weights = (weights / weights.sum(1, keepdims=True)).astype(v.dtype)
    triton.store(out_ref, triton.dot(weights, v).astype(out_ref.dtype), mask=mine)
