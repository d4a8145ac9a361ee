import numpy as np, json
from vasa_jax.data.face_litert import LitertAnalyzer
from vasa_jax.data.labels import fit_pose, lid_openings, mouth_opening, head_angles
an=LitertAnalyzer('face_models'); out={}
def read(fr):
    f=[an.landmarks(x) for x in fr]
    if any(x is None for x in f): return None
    q=np.stack([np.concatenate([x.points[:,:2]/128-1,x.points[:,2:]/128],1) for x in f]).astype(np.float32); p=fit_pose(q)
    return np.stack([mouth_opening(q),lid_openings(q,p).mean(1),*head_angles(p).T],1)
c={}
for n in ('before','final'):
    z=np.load(f'frames_{n}.npz'); c[n]={str(k):read(g) for k,g in zip(z['names'],z['generated'])}
names=[k for k in c['before'] if c['before'][k] is not None and c['final'][k] is not None]
m={n:np.stack([c[n][k] for k in names]) for n in c}
d={n:v-v.mean(1,keepdims=True) for n,v in m.items()}
consensus=np.median(np.concatenate([d['before'],d['final']]),0)
for i,l in enumerate(('mouth','lids','yaw','pitch','roll')):
    r={n:float(np.mean([np.corrcoef(x[:,i],consensus[:,i])[0,1] for x in d[n]])) for n in d}
    out[l]={'r with the common curve':{k:round(v,3) for k,v in r.items()},'spread':{n:round(float(d[n][:,:,i].std()),4) for n in d},
      'before-final r':round(float(np.corrcoef(d['before'][:,:,i].ravel(),d['final'][:,:,i].ravel())[0,1]),3)}
out['portraits']=len(names); print(json.dumps(out,indent=0)); json.dump(out,open('OUT/generated_motion.json','w'),indent=1)
lid={n:m[n][:,:,1] for n in m}
rel={n:float(np.median(1-lid[n].min(1)/np.percentile(lid[n],75,axis=1))) for n in lid}
print('relative closing of the deepest blink, median', {k:round(v,3) for k,v in rel.items()}, 'open eye', {n:round(float(np.median(np.percentile(lid[n],75,axis=1))),3) for n in lid}, 'deepest frame', [int(np.bincount(lid[n].argmin(1)).argmax()) for n in lid])
out['lids']['relative closing of the deepest blink']={k:round(v,3) for k,v in rel.items()}; json.dump(out,open('OUT/generated_motion.json','w'),indent=1)
import cv2
z=np.load('frames_final.npz'); g=z['generated']; k=int(np.bincount(lid['final'].argmin(1)).argmax()); mo=int(np.bincount(m['final'][:,:,0].argmax(1)).argmax())
pick=[0,2,7,10,16,18,28,29]
cv2.imwrite('blink_mouth.png',np.concatenate([np.concatenate([g[i][k] for i in pick[:4]],1),np.concatenate([g[i][mo] for i in pick[:4]],1),np.concatenate([g[i][k] for i in pick[4:]],1),np.concatenate([g[i][mo] for i in pick[4:]],1)])[...,::-1])
