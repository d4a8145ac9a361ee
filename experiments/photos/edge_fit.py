"""What the decoder shows where a head reaches beyond its photograph: refits head and keep, the two last convolutions."""
import sys, time, numpy as np, jax, jax.numpy as jnp, cv2, optax
import fit, pack, puppet, topology, bank as B
from vasa_jax.models.layers import pixel_unshuffle
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.weights.safetensors_io import load_params, save_params
from vasa_jax.data.synthetic.identity import sample_identity
from vasa_jax.data.synthetic.labels import labels
from vasa_jax.data.synthetic.motion import sample_motion
src, out = sys.argv[1:3]
t0 = time.time()
params, meta = load_params(src)
net = PortraitAnimator((params, meta), 4)
face = net._face
mesh = topology.mesh('conn/face_mesh_connections.py'); builder = fit.Builder(mesh); rend = puppet.Renderer(mesh)
M = 3
motions = jax.vmap(lambda k: B.calmed(sample_motion(k)))(jax.random.split(jax.random.key(3), 64 * M))
motions = {k: np.array(v) for k, v in motions.items()}
motions['dist'] *= np.random.default_rng(0).uniform(0.95, 1.25, 64 * M).astype(np.float32)
ident = {k: jnp.broadcast_to(v, (64 * M, *jnp.shape(v))) for k, v in sample_identity(jax.random.key(0)).items()}; ident['lens'] = jnp.ones(64 * M)
pose = labels(ident, {k: jnp.asarray(v) for k, v in motions.items()})['pose']
frame = jax.jit(lambda p, m, q: {k: v for k, v in rend.frame(p, m, q).items() if k in ('rgb', 'segmentation', 'top')})
dec = net._decoder
@jax.jit
def look(av, mo):
    d, e = dec.apply({'params': face['decoder']}, *av, mo[:, :9], mo[:, 9:], mutable='intermediates')
    i = e['intermediates']['image_net']
    return i['at_x'][0], i['at_painted'][0], i['at_keep'][0]
rng = np.random.default_rng(1)
X, P, K, S = [], [], [], []   # features of 3 x 3, old painted logits, old keep logits, state per sub-pixel
stills = list(pack.read('stills.npz'))[::2]
order = rng.permutation(len(stills))
n = 0
for s in order:
    if n >= 56 or time.time() - t0 > 420: break
    picture, points, matte, grey = stills[s]
    if grey: continue
    f = fit.fit(picture, points, matte, rng)
    if f is None: continue
    b = builder(f, rng)
    photo = cv2.resize(f['texture'][64:576, 64:576], (256, 256), interpolation=cv2.INTER_AREA)
    av = net.prepare(photo)
    fr = [frame(b, {k: jnp.asarray(v[n * M + j]) for k, v in motions.items()}, pose[n * M + j]) for j in range(M)]
    rgb = np.stack([np.clip(np.asarray(x['rgb']) + .5, 0, 255).astype(np.uint8) for x in fr])
    mo = net.encode_motion(rgb)
    # the poses are known; take them
    mo[:, :9] = np.asarray(pose[n * M:n * M + M])
    x, painted, keep = look((av.latents.appearance, av.latents.identity), jnp.asarray(mo))
    seg = np.stack([np.asarray(q['segmentation']) for q in fr]); top = np.stack([np.asarray(q['top']) for q in fr])
    unknown = seg == 255
    state = np.where(unknown & top, 2, np.where(unknown, 1, 0))
    near = np.stack([cv2.dilate(u.astype(np.uint8), np.ones((7, 7))) for u in unknown]) > 0
    state = np.where(near & ~unknown, 3, state)  # left alone
    state = np.asarray(pixel_unshuffle(jnp.asarray(state[..., None]), 2)); keep4 = np.asarray(pixel_unshuffle(keep, 2))
    xp = np.pad(np.asarray(x, np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    win = np.lib.stride_tricks.sliding_window_view(xp, (3, 3), axis=(1, 2))  # b h w c 3 3
    for j in range(M):
        st = state[j].reshape(-1, 4)
        special = np.flatnonzero(np.isin(st, (1, 2)).any(1)); rest = np.flatnonzero((st == 0).all(1))
        pick = np.r_[rng.choice(special, min(700, len(special)), replace=False), rng.choice(rest, 1000, replace=False)]
        r, c = np.divmod(pick, 128)
        X.append(win[j][r, c].transpose(0, 2, 3, 1).reshape(len(pick), -1)); P.append(np.asarray(painted[j], np.float32)[r, c]); K.append(keep4[j][r, c]); S.append(st[pick])
    n += 1
X, P, K, S = (np.concatenate(v) for v in (X, P, K, S))
print(f'{time.time() - t0:.0f} s', n, 'stills', X.shape, 'states', np.bincount(S.ravel().astype(int)), flush=True)
inner = params['decoder']['image_net']
old = {k: {q: jnp.asarray(v, jnp.float32) for q, v in inner[k].items()} for k in ('head', 'keep')}
print({k: {q: v.shape for q, v in d.items()} for k, d in old.items()})
flatk = lambda w: w.reshape(-1, w.shape[-1])
hk = np.abs(X[:100] @ np.asarray(flatk(old['head']['kernel'])) + np.asarray(old['head']['bias']) - P[:100]).max()
print('replay error', hk)
def loss(w, x, p, k, s):
    painted = x @ flatk(w['head']['kernel']) + w['head']['bias']
    kept = x @ flatk(w['keep']['kernel']) + w['keep']['bias'] - 2.0
    known, below, top = ((s == v).astype(jnp.float32) for v in (0, 1, 2))
    matte, old_matte = painted.reshape(-1, 4, 4)[..., 3], p.reshape(-1, 4, 4)[..., 3]
    rgb, old_rgb = painted.reshape(-1, 4, 4)[..., :3], p.reshape(-1, 4, 4)[..., :3]
    sig = jax.nn.sigmoid
    hold = (jnp.square(sig(matte) - sig(old_matte)) + jnp.square(sig(kept) - sig(k))) * known
    hold_rgb = jnp.square((1 - sig(kept))[..., None] * sig(rgb) - (1 - sig(k))[..., None] * sig(old_rgb)).sum(-1) * known
    soft = lambda z: jax.nn.softplus(-z)
    edge = below * (soft(jnp.minimum(kept, 3.0)) + soft(jnp.minimum(matte, 4.0))) + top * soft(jnp.minimum(-matte, 4.0))
    return 20 * (hold + hold_rgb).sum() / known.sum() + 0.3 * edge.sum() / (below + top).sum(), ((hold + hold_rgb).sum() / known.sum(), (below * soft(kept)).sum() / below.sum(), (top * soft(-matte)).sum() / top.sum())
w = old
opt = optax.adam(optax.cosine_decay_schedule(2e-3, 1500)); state = opt.init(w)
step = jax.jit(lambda w, state, *a: (lambda g, u: (optax.apply_updates(w, u[0]), u[1], g[0]))(*(lambda v, g: ((v[1], g), opt.update(g, state, w)))(*jax.value_and_grad(loss, has_aux=True)(w, *a))))
Xj = X
for i in range(1500):
    idx = rng.integers(0, len(X), 4096)
    w, state, aux = step(w, state, jnp.asarray(X[idx]), jnp.asarray(P[idx]), jnp.asarray(K[idx]), jnp.asarray(S[idx]))
    if i % 250 == 0 or i == 1499: print(f'{time.time() - t0:.0f} s', i, [float(v) for v in aux], flush=True)
for k in w:
    inner[k] = {q: np.asarray(v) for q, v in w[k].items()}
save_params(f'{out}/face.safetensors', params, meta)
save_params(f'{out}/ema_f32.safetensors', params, meta, dtype=jnp.float32)
np.savez('edge_data.npz', n=n)
