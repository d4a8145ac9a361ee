"""VASADiffusion: the Gaussian diffusion of motion (VASA-1, arXiv 2404.10667, section 3.2), on top of any denoiser.

One parameterisation throughout: the denoiser predicts the clean sequence x0. Times are integers t in [0, T); t = T - 1
is almost pure noise. `apply(params, noisy, t, conditions) -> x0` stands for `model.apply({"params": params}, ...)`;
conditions are a `MotionConditions`, or what a `prepare(params, conditions)` made of it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from vasa_jax.conventions import POSE_DIM
from vasa_jax.models.motion import MotionConditions

Apply = Callable[[Any, Array, Array, Any], Array]


class NoiseKeys(NamedTuple):
    """Random keys of a window's noise, apart: a generator may start every window from the same noise."""

    initial: jax.Array
    steps: jax.Array


Prepare = Callable[[Any, MotionConditions], Any]

GUIDED = {
    "audio": "audio_mask",
    "gaze": "gaze_mask",
    "distance": "distance_mask",
    "emotion": "emotion_mask",
    "previous": "prev_mask",
}  # condition that can be guided -> its mask


def without(conditions: MotionConditions, name: str) -> MotionConditions:
    """Replaces the condition `name` (a key of GUIDED) by its learned null."""
    mask = GUIDED[name]
    return conditions._replace(**{mask: jnp.zeros_like(getattr(conditions, mask))})


def branches(conditions: MotionConditions, guidance: Mapping[str, Any]) -> MotionConditions:
    """Stacks the conditions and, for every key of `guidance` in order, those without it: (copies * B, ...)."""
    rows = [conditions, *(without(conditions, name) for name in sorted(guidance))]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *rows)


def active_guidance(**scales: float) -> dict[str, float]:
    """Returns the scales that are not zero: `active_guidance(audio=0.5, gaze=1.0, emotion=0.0)` -> two branches.

    The keys are the branches that the denoiser evaluates (static under jit); the values may change without recompiling.

    Raises:
      ValueError: a key is not one of GUIDED.
    """
    unknown = set(scales) - set(GUIDED)
    if unknown:
        raise ValueError(f"cannot guide {sorted(unknown)}; the conditions are {list(GUIDED)}")
    return {name: float(scale) for name, scale in scales.items() if scale != 0.0}


def drop_conditions(
    key: jax.Array,
    conditions: MotionConditions,
    *,
    rate: float = 0.1,
    previous_rate: float = 0.5,
    truncate: float = 0.3,
    shortest: int = 4,
    blinks_rate: float = 0.3,
) -> MotionConditions:
    """Drops conditions at random in training: each goes to its learned null with its own probability.

    Masks are only ever cleared, never set.

    Args:
      rate: probability of audio, gaze, distance and emotion, each by itself.
      previous_rate: of X_pre and A_pre together.
      blinks_rate: of blinks.
      truncate: probability that the audio ends early, after a length uniform in [shortest, W) frames.
    """
    batch, window = conditions.audio_mask.shape
    names = [*GUIDED, "truncate", "length", "blinks"]
    keys = dict(zip(names, jax.random.split(key, len(names))))
    keep = {
        name: jax.random.bernoulli(keys[name], 1.0 - (previous_rate if name == "previous" else rate), (batch,))
        for name in GUIDED
    }
    length = jax.random.randint(keys["length"], (batch,), shortest, max(window, shortest + 1))
    length = jnp.where(jax.random.bernoulli(keys["truncate"], truncate, (batch,)), length, window)
    audio_mask = conditions.audio_mask & keep["audio"][:, None] & (jnp.arange(window) < length[:, None])
    if conditions.blinks_mask is not None:
        told = jax.random.bernoulli(keys["blinks"], 1.0 - blinks_rate, (batch,))
        conditions = conditions._replace(blinks_mask=conditions.blinks_mask & told)
    return conditions._replace(
        audio_mask=audio_mask,
        prev_mask=conditions.prev_mask & keep["previous"],
        gaze_mask=conditions.gaze_mask & keep["gaze"],
        distance_mask=conditions.distance_mask & keep["distance"],
        emotion_mask=conditions.emotion_mask & keep["emotion"],
    )


@functools.cache
def cosine_alpha_bar(timesteps: int, offset: float, smallest_beta: float = 0.0) -> np.ndarray:
    """Returns alpha-bar of the cosine schedule (arXiv 2102.09672), (T,) float64; the betas are clipped at 0.999."""
    points = np.arange(timesteps + 1) / timesteps
    levels = np.cos((points + offset) / (1.0 + offset) * np.pi / 2.0) ** 2
    betas = np.clip(1.0 - levels[1:] / levels[:-1], smallest_beta, 0.999)
    return np.cumprod(1.0 - betas)


@dataclasses.dataclass(frozen=True)
class VASADiffusion:
    """Cosine schedule, forward process, x0 loss, classifier-free guidance; DDIM, its ancestral form, DPM-Solver++."""

    timesteps: int = 1000  # T
    offset: float = 0.008  # of the cosine schedule
    smallest_beta: float = 0.0  # of the schedule
    pose_dim: int = POSE_DIM  # the first dimensions of a motion vector, weighted apart
    pose_weight: float = 1.0
    dynamics_weight: float = 1.0
    velocity_weight: float = 0.0  # of the same loss between frame differences

    @property
    def levels(self) -> np.ndarray:
        """Returns alpha-bar of every time, (T,) float64."""
        return cosine_alpha_bar(self.timesteps, self.offset, self.smallest_beta)

    def alpha_bar(self, t: Int[Array, "..."]) -> Float[Array, "..."]:
        """Returns the share of the signal's variance that is left at t; 1 at t = -1 (clean)."""
        table = np.concatenate([[1.0], self.levels])
        return jnp.asarray(table, jnp.float32)[t + 1]

    def _scales(self, t_B: Int[Array, "batch"], like: Array) -> tuple[Array, Array]:
        """sqrt(alpha-bar) and sqrt(1 - alpha-bar), from float64, shaped to multiply `like` (B, ...)."""
        table = np.concatenate([[1.0], self.levels])
        shape = t_B.shape + (1,) * (like.ndim - t_B.ndim)
        signal = jnp.asarray(np.sqrt(table), jnp.float32)[t_B + 1].reshape(shape)
        noise = jnp.asarray(np.sqrt(1.0 - table), jnp.float32)[t_B + 1].reshape(shape)
        return signal, noise

    # forward process

    def q_sample(
        self, x0: Float[Array, "batch ..."], t: Int[Array, "batch"], noise: Float[Array, "batch ..."]
    ) -> Float[Array, "batch ..."]:
        """Adds noise: x_t = sqrt(alpha-bar_t) x0 + sqrt(1 - alpha-bar_t) noise."""
        signal_scale, noise_scale = self._scales(t, x0)
        return signal_scale * x0 + noise_scale * noise

    def noise_from_x0(
        self, x_t: Float[Array, "batch ..."], t: Int[Array, "batch"], x0: Float[Array, "batch ..."]
    ) -> Float[Array, "batch ..."]:
        """Returns the noise that leads from x0 to x_t."""
        signal_scale, noise_scale = self._scales(t, x_t)
        return (x_t - signal_scale * x0) / noise_scale

    def x0_from_noise(
        self, x_t: Float[Array, "batch ..."], t: Int[Array, "batch"], noise: Float[Array, "batch ..."]
    ) -> Float[Array, "batch ..."]:
        """Returns the clean sequence that `noise` leads to x_t; ill-conditioned near t = T - 1."""
        signal_scale, noise_scale = self._scales(t, x_t)
        return (x_t - noise_scale * noise) / signal_scale

    # training

    def loss(
        self,
        prediction: Float[Array, "batch window dim"],
        target: Float[Array, "batch window dim"],
        valid: Bool[Array, "batch window"],
        previous: Float[Array, "batch dim"] | None = None,
        previous_valid: Bool[Array, "batch"] | None = None,
        previous_error: Float[Array, "batch dim"] | None = None,
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Computes the x0 loss: mean squared error of the valid frames, pose and dynamics averaged and weighted apart.

        With a velocity weight, the differences between valid neighbours count too. `previous` adds the difference
        across the seam.

        Args:
          previous: the last frame of X_pre, true where `previous_valid`.
          previous_error: how far it is from the true frame (default: it is true).

        Returns:
          the loss and its unweighted terms.
        """
        prediction, target = prediction.astype(jnp.float32), target.astype(jnp.float32)

        def groups(error_BWD, mask_BW):
            share = mask_BW.astype(jnp.float32) / jnp.maximum(mask_BW.sum(), 1)
            square = jnp.square(error_BWD)
            pose = jnp.sum(share * square[..., : self.pose_dim].mean(-1))
            dynamics = jnp.sum(share * square[..., self.pose_dim :].mean(-1))
            return pose, dynamics

        pose, dynamics = groups(prediction - target, valid)
        loss = self.pose_weight * pose + self.dynamics_weight * dynamics
        terms = {"pose": pose, "dynamics": dynamics}
        if self.velocity_weight:
            error, mask = prediction - target, valid
            if previous is not None:
                known = jnp.ones_like(valid[:, :1]) if previous_valid is None else previous_valid[:, None]
                before = jnp.zeros_like(error[:, :1]) if previous_error is None else previous_error[:, None]
                error = jnp.concatenate([before, error], axis=1)
                mask = jnp.concatenate([known, valid], axis=1)
            pose, dynamics = groups(error[:, 1:] - error[:, :-1], mask[:, 1:] & mask[:, :-1])
            loss += self.velocity_weight * (self.pose_weight * pose + self.dynamics_weight * dynamics)
            terms |= {"pose_velocity": pose, "dynamics_velocity": dynamics}
        return loss, terms

    def training_loss(
        self,
        apply: Apply,
        params: Any,
        key: jax.Array,
        x0: Float[Array, "batch window dim"],
        conditions: MotionConditions,
        valid: Bool[Array, "batch window"],
        previous_error: Float[Array, "batch dim"] | None = None,
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]], Float[Array, "batch window dim"]]:
        """Estimates E_t || x0 - H(x_t, t, C) ||^2 at one uniform t per row (VASA-1, section 3.2).

        Args:
          previous_error: of the last frame of X_pre, see `loss`.

        Returns:
          the loss, its terms, and the prediction of x0.
        """
        t_key, noise_key = jax.random.split(key)
        t_B = jax.random.randint(t_key, x0.shape[:1], 0, self.timesteps)
        x_t = self.q_sample(x0, t_B, jax.random.normal(noise_key, x0.shape))
        prediction = apply(params, x_t, t_B, conditions)
        loss, terms = self.loss(
            prediction, x0, valid, conditions.prev_motion[:, -1], conditions.prev_mask, previous_error
        )
        return loss, terms, prediction

    # sampling

    def guided(
        self,
        apply: Apply,
        params: Any,
        x_t: Float[Array, "batch window dim"],
        t: Int[Array, "batch"],
        conditions: Any,
        guidance: Mapping[str, ArrayLike],
    ) -> Float[Array, "batch window dim"]:
        """Predicts x0 under guidance: (1 + sum_c l_c) H(x_t, t, C) - sum_c l_c H(x_t, t, C | c = null).

        All branches run in one batch. Without guidance the conditional branch alone is evaluated.

        Args:
          conditions: of all `branches` of `guidance`.
          guidance: its keys choose the branches (see `active_guidance`), its values are the scales l_c.
        """
        copies = 1 + len(guidance)
        x0 = apply(params, jnp.concatenate([x_t] * copies), jnp.concatenate([t] * copies), conditions)
        conditional, *nulls = jnp.split(x0, copies)
        result = conditional
        for name, null in zip(sorted(guidance), nulls):  # an explicit sum: at scale zero exactly the conditional branch
            result = result + guidance[name] * (conditional - null)
        return result

    def sampling_times(self, steps: int) -> np.ndarray:
        """Returns decreasing times, (steps,) int32, from T - 1; the sampler goes from the last one to clean.

        Raises:
          ValueError: `steps` is not in [1, T].
        """
        if not 1 <= steps <= self.timesteps:
            raise ValueError(f"steps must be in [1, {self.timesteps}], got {steps}")
        return np.round(self.timesteps * (1.0 - np.arange(steps) / steps)).astype(np.int32) - 1

    def ddim_step(
        self,
        x_t: Float[Array, "batch ..."],
        t: Int[Array, "batch"],
        t_next: Int[Array, "batch"],
        x0: Float[Array, "batch ..."],
    ) -> Float[Array, "batch ..."]:
        """Steps from t to t_next < t given the predicted x0, without new noise (eta = 0); t_next = -1 returns x0."""
        return self.q_sample(x0, t_next, self.noise_from_x0(x_t, t, x0))

    def ddim(
        self,
        denoise: Callable[[Array, Array], Array],
        noise: Float[Array, "batch ..."],
        steps: int,
    ) -> Float[Array, "batch ..."]:
        """Samples from noise at T - 1 by DDIM (arXiv 2010.02502), with `denoise(x_t, t) -> x0`, in one scan."""
        times = self.sampling_times(steps)
        pairs = jnp.asarray(np.stack([times, np.append(times[1:], -1)], axis=1))

        def step(x_t, pair):
            t, t_next = (jnp.broadcast_to(value, x_t.shape[:1]) for value in (pair[0], pair[1]))
            return self.ddim_step(x_t, t, t_next, denoise(x_t, t)), None

        return jax.lax.scan(step, noise, pairs)[0]

    def solver_times(self, steps: int) -> np.ndarray:
        """Returns decreasing times for DPM-Solver++, (steps,) int32, from T - 1.

        The first step crosses what is almost pure noise. The others are evenly spaced in lambda = log(signal / noise),
        because the second order is exact to even steps in lambda. They go from 0.91 T, or DDIM's second time if that
        is later, to 0.02 T, or DDIM's last time if that is earlier. Times that would coincide are moved apart.

        Raises:
          ValueError: `steps` is not in [1, T].
        """
        times = self.sampling_times(steps)
        if steps < 3:
            return times
        levels = self.levels
        log_ratio = 0.5 * np.log(levels / (1.0 - levels))  # decreasing in t
        first, last = max(round(0.91 * self.timesteps), times[1]), min(round(0.02 * self.timesteps), times[-1])
        wanted = np.linspace(log_ratio[first], log_ratio[last], steps - 1)
        inner = np.interp(wanted, log_ratio[::-1], np.arange(self.timesteps)[::-1])
        order = np.arange(steps)
        times = np.append(times[0], np.round(inner))
        times = np.maximum(times, steps - 1 - order)
        return (np.minimum.accumulate(times + order) - order).astype(np.int32)

    def dpmpp(
        self,
        denoise: Callable[[Array, Array], Array],
        noise: Float[Array, "batch ..."],
        steps: int,
    ) -> Float[Array, "batch ..."]:
        """Samples as `ddim` does, by DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2).

        Each step extrapolates x0 along lambda from its last two predictions. The first step and the last one, to
        clean, are of first order.
        """
        times = self.solver_times(steps)
        levels = np.concatenate([[1.0], self.levels])
        signal, spread = np.sqrt(levels[np.append(times, -1) + 1]), np.sqrt(1.0 - levels[np.append(times, -1) + 1])
        log_ratio = np.log(signal[:-1] / spread[:-1])
        h = np.diff(log_ratio)  # of all steps but the last
        extrapolation = np.zeros(steps)  # 1 / (2 r) with r = the step before over this one
        extrapolation[1:-1] = 0.5 * h[1:] / h[:-1]
        keep = spread[1:] / spread[:-1]
        gain = signal[1:] - keep * signal[:-1]  # alpha_next (1 - exp(-h))
        rows = np.stack([keep, gain * (1.0 + extrapolation), -gain * extrapolation], axis=1)

        def step(carry, inputs):
            (x_t, x0_before), (t, (keep, now, before)) = carry, inputs
            x0 = denoise(x_t, jnp.broadcast_to(t, x_t.shape[:1]))
            return (keep * x_t + now * x0 + before * x0_before, x0), None

        inputs = (jnp.asarray(times), jnp.asarray(rows, jnp.float32))
        return jax.lax.scan(step, (noise, jnp.zeros_like(noise)), inputs)[0][0]

    def ancestral(
        self,
        denoise: Callable[[Array, Array], Array],
        noise: Float[Array, "batch ..."],
        steps: int,
        key: jax.Array,
    ) -> Float[Array, "batch ..."]:
        """Samples as `ddim` does, with fresh noise in every step: eta = 1 of arXiv 2010.02502, equation 16.

        With all T steps it is the sampler of DDPM (arXiv 2006.11239, algorithm 2). The noise is that of `step_noise`.
        """
        times = self.sampling_times(steps)
        now, after = self.levels[times], np.append(self.levels[times[1:]], 1.0)
        variance = (1.0 - now / after) * (1.0 - after) / (1.0 - now)
        keep = np.sqrt(np.maximum(1.0 - after - variance, 0.0) / (1.0 - now))
        rows = np.stack([keep, np.sqrt(after) - keep * np.sqrt(now), np.sqrt(variance)], axis=1)

        def step(x_t, inputs):
            number, t, (keep, gain, spread) = inputs
            x0 = denoise(x_t, jnp.broadcast_to(t, x_t.shape[:1]))
            return keep * x_t + gain * x0 + spread * self.step_noise(key, number, x_t.shape), None

        inputs = (jnp.arange(steps), jnp.asarray(times), jnp.asarray(rows, jnp.float32))
        return jax.lax.scan(step, noise, inputs)[0]

    def step_noise(
        self, key: jax.Array, number: Int[Array, ""], shape: tuple[int, ...]
    ) -> Float[Array, "batch window dim"]:
        """Draws what step `number` of `ancestral` adds; keys and rows as of `initial_noise`, other numbers."""
        fold = functools.partial(jax.random.fold_in, data=number + 1)
        return self.initial_noise(jax.vmap(fold)(key) if key.ndim else fold(key), shape)

    def initial_noise(self, key: jax.Array, shape: tuple[int, int, int]) -> Float[Array, "batch window dim"]:
        """Draws standard normal noise (B, W, D).

        With one key, row b depends on the key and b only, not on the batch size. With a key per row, (B,), row b is
        what a batch of one draws with that key.
        """
        if key.ndim:
            rows = jax.vmap(lambda row_key: jax.random.fold_in(row_key, 0))(key)
        else:
            rows = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(shape[0]))
        return jax.vmap(lambda row_key: jax.random.normal(row_key, shape[1:]))(rows)

    def sample_window(
        self,
        apply: Apply,
        params: Any,
        key: jax.Array | NoiseKeys,
        conditions: MotionConditions,
        steps: int,
        guidance: Mapping[str, ArrayLike] | None = None,
        solver: str = "ddim",
        prepare: Prepare | None = None,
    ) -> Float[Array, "batch window dim"]:
        """Samples the motion of one window (B, W, D), z-scored, float32.

        Trace it under jit with `apply`, `steps` and `solver` static (generation.windows.sample_windows does).

        Args:
          key: see `initial_noise`.
          solver: one of SOLVERS.
          prepare: what is done once to the conditions of all branches, before the steps.
        """
        batch, window = conditions.audio_mask.shape
        keys = key if isinstance(key, NoiseKeys) else NoiseKeys(key, key)
        noise = self.initial_noise(keys.initial, (batch, window, conditions.prev_motion.shape[-1]))

        guidance = guidance or {}
        prepared = branches(conditions, guidance)
        if prepare is not None:
            prepared = prepare(params, prepared)

        def denoise(x_t, t):
            return self.guided(apply, params, x_t, t, prepared, guidance)

        return self.solve(solver, denoise, noise, steps, keys.steps)

    def solve(
        self, solver: str, denoise: Callable[[Array, Array], Array], noise: Float[Array, "batch ..."], steps: int,
        key: jax.Array,
    ) -> Float[Array, "batch ..."]:  # fmt: skip
        """Samples from noise by one of SOLVERS; `key` of the noise that `ancestral` adds."""
        if solver == "ancestral":
            return self.ancestral(denoise, noise, steps, key)
        return {"ddim": self.ddim, "dpmpp": self.dpmpp}[solver](denoise, noise, steps)
