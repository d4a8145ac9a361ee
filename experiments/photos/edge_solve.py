
import sys, numpy as np, jax, jax.numpy as jnp, optax, time
from vasa_jax.weights.safetensors_io import load_params, save_params
src, out = sys.argv[1:3]
params, meta = load_params(src); inner = params['decoder']['image_net']
z = np.load('edge_data.npz'); X, P, K, S = z['X'].astype(np.float32), z['P'], z['K'], z['S']
rng = np.random.default_rng(0); t0 = time.time()
sig, flatk = jax.nn.sigmoid, lambda w: w.reshape(-1, w.shape[-1])
def solve(w, loss, steps, rate):
    opt = optax.adam(optax.cosine_decay_schedule(rate, steps)); state = opt.init(w)
    @jax.jit
    def step(w, state, *a):
        (v, aux), g = jax.value_and_grad(loss, has_aux=True)(w, *a)
        u, state = opt.update(g, state, w)
        return optax.apply_updates(w, u), state, aux
    for i in range(steps):
        idx = rng.integers(0, len(X), 4096)
        w, state, aux = step(w, state, *(jnp.asarray(v[idx]) for v in (X, P, K, S)))
        if i % 300 == 0 or i == steps - 1: print(f'{time.time() - t0:.0f} s', i, [round(float(v), 6) for v in aux], flush=True)
    return {k: np.asarray(v) for k, v in w.items()}
def keep_loss(w, x, p, k, s):
    kept = x @ flatk(w['kernel']) + w['bias'] - 2.0
    known, off = (s == 0).astype(jnp.float32), ((s == 1) | (s == 2)).astype(jnp.float32)
    d = jnp.square(sig(kept) - sig(k)); hold = (d * known).sum() / known.sum()
    miss = (off * jax.nn.softplus(-jnp.minimum(kept, 3.0))).sum() / off.sum()
    return 100 * hold + 0.3 * miss, (hold, miss, (jnp.abs(sig(kept) - sig(k)) * known).max())
old = {q: jnp.asarray(v, jnp.float32) for q, v in inner['keep'].items()}
inner['keep'] = solve(old, keep_loss, 900, 2e-3)
save_params(f'{out}/face.safetensors', params, meta); save_params(f'{out}/ema_f32.safetensors', params, meta, dtype=jnp.float32)
