"""Caches unseen photographs as puppets: truth.npz (photos, frames, points)."""
import csv, sys, cv2, jax, jax.numpy as jnp, numpy as np
import fit, pack, puppet, topology, bank as B
from vasa_jax.data.face_litert import LitertAnalyzer
from vasa_jax.data.synthetic.identity import sample_identity
from vasa_jax.data.synthetic.labels import labels
from vasa_jax.data.synthetic.motion import sample_motion
an = LitertAnalyzer('face_models')
rows = [r for r in csv.DictReader(open('SHARED/faces/stills.tsv'), delimiter='\t') if r['split'] == 'test' and r['colour'] == 'colour']
pick = [r for r in rows if r['file'].startswith('congress118')][::3][:9] + [r for r in rows if r['rights_class'] == 'official'][::16][:5] + [r for r in rows if r['file'].startswith('london')][::3][:2]
N = 12
m = jax.vmap(lambda k: B.calmed(sample_motion(k)))(jax.random.split(jax.random.key(99), N))
m = {k: np.array(v) for k, v in m.items()}
# the last four: two blinks and two open mouths
for j, (blink, jaw) in enumerate(((1, .1), (1, .3), (0, .9), (0, .6)), 8):
    m['blink_l'][j] = m['blink_r'][j] = blink
    m['jaw'][j] = jaw; m['press'][j] = m['tuck'][j] = 0; m['lo'][j] = max(m['lo'][j], .3 * (jaw > .5))
m = {k: jnp.asarray(v) for k, v in m.items()}
ident = {k: jnp.broadcast_to(v, (N, *jnp.shape(v))) for k, v in sample_identity(jax.random.key(0)).items()}; ident['lens'] = jnp.ones(N)
pose = labels(ident, m)['pose']
mesh = topology.mesh('conn/face_mesh_connections.py'); builder = fit.Builder(mesh); rend = puppet.Renderer(mesh)
fr = jax.jit(rend.frame)
photos, frames, names, pts = [], [], [], []
for r in pick:
    im = np.ascontiguousarray(cv2.imread('SHARED/faces/stills/' + r['file'])[..., ::-1])
    a = pack.analyse(im, an)
    if a is None: continue
    rng = np.random.default_rng(5)
    f = fit.fit(im, a[0], a[1], rng)
    if f is None: print('no', r['file']); continue
    b = builder(f, rng)
    photo = cv2.resize(f['texture'][64:576, 64:576], (256, 256), interpolation=cv2.INTER_AREA)
    t = [np.clip(np.asarray(fr(b, {k: v[j] for k, v in m.items()}, pose[j])['rgb']) + .5, 0, 255).astype(np.uint8) for j in range(N)]
    q = [an.landmarks(x) for x in t]
    if any(x is None for x in q): print('unread', r['file']); continue
    photos.append(photo); frames.append(np.stack(t)); names.append(r['file'])
    pts.append(np.stack([np.concatenate([x.points[:, :2] / 128 - 1, x.points[:, 2:] / 128], 1) for x in q]))
    print(r['file'], flush=True)
np.savez('truth.npz', photos=np.stack(photos), frames=np.stack(frames), points=np.stack(pts).astype(np.float32), names=np.array(names))
