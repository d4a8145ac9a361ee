"""eval_codec.py FACE.safetensors NAME [persons portraits]: figures and frames of one codec."""
import csv, glob, json, sys, time, cv2, numpy as np
sys.path.insert(0, 'puppet')
from judge import compare
import clips as C
from vasa_jax.data.face_crop import crop_square, find_face
from vasa_jax.data.face_litert import LitertAnalyzer
from vasa_jax.data.labels import fit_pose, head_angles, lid_openings, mouth_opening, gaze_angles
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.weights.safetensors_io import load_params
path, name, *n = sys.argv[1:]
persons, portraits, nclips = ([int(x) for x in n] + [16, 30, 12])[:3] if len(n) < 3 else [int(x) for x in n[:3]]
an = LitertAnalyzer('face_models')
net = PortraitAnimator(load_params(path), 8)
def read(frames):
    f = [an.landmarks(x) for x in frames]
    if any(x is None for x in f): return None
    return np.stack([np.concatenate([x.points[:, :2] / 128 - 1, x.points[:, 2:] / 128], 1) for x in f]).astype(np.float32)
z = np.load('truth.npz'); out = {}; keep = {}
photos, truth, points = (z[k][:persons] for k in ('photos', 'frames', 'points'))
codes = [net.encode_motion(t) for t in truth]
avatars = [net.prepare(p) for p in photos]
for kind, step in (('self', 0), ('across', 1)):
    values, mouths, lids, angles, gz, lost, shown = [], [], [], [], [], 0, []
    for i in range(len(photos)):
        d = np.concatenate(list(net.render(avatars[i], codes[(i + step) % len(photos)])))
        shown.append(d)
        values += [compare(a, b, p) for a, b, p in zip(d, truth[i], points[i])]
        q, t = read(d), points[i]
        if q is None: lost += 1; continue
        mouths.append((mouth_opening(q), mouth_opening(t)))
        lids.append((lid_openings(q, fit_pose(q)).mean(1), lid_openings(t, fit_pose(t)).mean(1)))
        angles.append(np.abs(head_angles(fit_pose(q)) - head_angles(fit_pose(t))).mean())
        gz.append((gaze_angles(q, fit_pose(q))[:, 0], gaze_angles(t, fit_pose(t))[:, 0]))
    r = {k: round(float(np.mean([v[k] for v in values])), 3) for k in values[0]}
    for label, pairs in (('mouth', mouths), ('lids', lids), ('gaze_yaw', gz)):
        a, b = (np.concatenate([p[j] - p[j].mean() for p in pairs]) for j in range(2))
        slope = float((a * b).sum() / (b * b).sum())
        r |= {f'{label}_r': round(float(np.corrcoef(a, b)[0, 1]), 3), f'{label}_size': round(float(a.std() / b.std()), 3), f'{label}_slope': round(slope, 3)}
    r |= {'angle_error': round(float(np.mean(angles)), 2), 'lost': lost, 'persons': len(photos)}
    out[kind] = r; keep[kind] = np.stack(shown)
    print(name, kind, json.dumps(r), flush=True)
motion = np.load('motion.npy')
faces, crops = [], []
rows = [r for r in csv.DictReader(open('SHARED/faces/stills.tsv'), delimiter='\t') if r['split'] == 'test']
sel = [r for r in rows if r['rights_class'] == 'clear' and r['colour'] == 'colour'][1::5] + [r for r in rows if r['rights_class'] == 'official'][3::18]
files = ['SHARED/faces/stills/' + r['file'] for r in sel] + sorted(glob.glob('SHARED/media/portraits/*'))
if portraits < len(files): files = files[:: max(1, len(files) // portraits)][:portraits]
shown = []
for f in files:
    im = cv2.imread(f)
    if im is None: continue
    try: x, _ = crop_square(im[..., ::-1], find_face(np.ascontiguousarray(im[..., ::-1])), 256)
    except Exception as e: print('no face', f); continue
    av = net.prepare(np.ascontiguousarray(x))
    mo = motion.copy(); p = np.asarray(av.latents.pose)[0]
    d = np.concatenate(list(net.render(av, mo)))
    crops.append(x); shown.append(d); faces.append(f.split('/')[-1])
keep |= {'portraits': np.stack(crops), 'generated': np.stack(shown)}
if nclips:
    vals = {}
    still = {}
    test = [r for r in csv.DictReader(open('SHARED/faces/clips.tsv'), delimiter='\t') if r['split'] == 'test'][:nclips]
    try: cut = dict(np.load('testclips.npy', allow_pickle=True).item())
    except OSError:
        cut = {r['file']: C.cut('SHARED/faces/clips/' + r['file'], an, 9, 30.0) for r in test}
        np.save('testclips.npy', cut)
    sheet = []
    for k, c in cut.items():
        if c is None: continue
        frames, _, pts = c
        d = np.concatenate(list(net.render(net.prepare(frames[0]), net.encode_motion(frames[1:]))))
        v = [compare(a, b, p) for a, b, p in zip(d, frames[1:], pts[1:])]
        vals[k] = {n: float(np.mean([q[n] for q in v])) for n in v[0]}
        s = [compare(frames[0], b, p) for b, p in zip(frames[1:], pts[1:])]
        still[k] = {n: float(np.mean([q[n] for q in s])) for n in s[0]}
        sheet.append(np.concatenate([frames[0], frames[3], d[2], frames[7], d[6]], 1))
    out['clips'] = {n: round(float(np.mean([v[n] for v in vals.values()])), 3) for n in next(iter(vals.values()))}
    out['clips_unmoved'] = {n: round(float(np.mean([v[n] for v in still.values()])), 3) for n in next(iter(vals.values()))}
    print(name, 'clips', json.dumps(out['clips']), 'unmoved', json.dumps(out['clips_unmoved']), flush=True)
    keep['clips'] = np.stack(sheet)
json.dump(out, open(f'figures_{name}.json', 'w'), indent=1)
np.savez(f'frames_{name}.npz', names=np.array(faces), **keep)
