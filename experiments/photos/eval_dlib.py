"""eval_dlib.py NAME...: distance of face descriptors portrait-video, sharpness over the unmoved portrait (venv-dlib)."""
import sys, json, cv2, dlib, numpy as np, face_recognition_models as m
det = dlib.get_frontal_face_detector(); sp = dlib.shape_predictor(m.pose_predictor_model_location()); rec = dlib.face_recognition_model_v1(m.face_recognition_model_location())
def face(x):
    big = cv2.resize(x, (512, 512), interpolation=cv2.INTER_CUBIC)
    r = det(big, 0)
    if not r: return None
    r = max(r, key=lambda b: b.area())
    return np.array(rec.compute_face_descriptor(big, sp(big, r))), r
def sharp(x, r):
    l, t, b, rr = r.left() // 2, r.top() // 2, r.bottom() // 2, r.right() // 2
    c = x[max(t, 0):b, max(l, 0):rr]
    g = cv2.cvtColor(cv2.resize(c, (160, 160), interpolation=cv2.INTER_AREA if c.shape[0] > 160 else cv2.INTER_CUBIC), cv2.COLOR_RGB2GRAY)
    return cv2.Laplacian(g.astype(np.float64), cv2.CV_64F).var()
for name in sys.argv[1:]:
    z = np.load(f'frames_{name}.npz'); per = {}
    for n, p, fr in zip(z['names'], z['portraits'], z['generated']):
        a = face(p)
        if a is None: per[str(n)] = None; continue
        d, s, lost = [], [], 0
        for x in fr:
            b = face(x)
            if b is None: lost += 1; continue
            d.append(np.linalg.norm(a[0] - b[0])); s.append(sharp(x, b[1]) / sharp(p, a[1]))
        per[str(n)] = [round(float(np.mean(d)), 3) if d else None, round(float(np.mean(s)), 3) if s else None, lost]
    ok = [v for v in per.values() if v and v[0] is not None]
    r = {'identity': round(float(np.mean([v[0] for v in ok])), 3), 'identity_max': max(v[0] for v in ok), 'sharpness': round(float(np.median([v[1] for v in ok])), 3),
         'sharpness_mean': round(float(np.mean([v[1] for v in ok])), 3), 'portraits': len(ok), 'lost_frames': sum(v[2] for v in ok), 'frames': int(len(z['generated'][0]) * len(ok))}
    clear = [v[0] for k, v in per.items() if v and v[0] is not None and k.startswith(('congress', 'london', 'brazil', 'thai', 'photo_', 'official', 'us'))]
    r['identity_photos'] = round(float(np.mean(clear)), 3) if clear else None
    print(name, json.dumps(r)); json.dump({'mean': r, 'each': per}, open(f'identity_{name}.json', 'w'), indent=1)
