import numpy as np, cv2, time
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.weights.safetensors_io import load_params
from vasa_jax.preparation.face_backends.litert import LitertAnalyzer
from vasa_jax.preparation.landmark_labels import fit_pose, lid_openings, mouth_opening
an=LitertAnalyzer('face_models')
def lids(fr):
    o=[]
    for x in fr:
        l=an.landmarks(x); q=np.concatenate([l.points[:,:2]/128-1,l.points[:,2:]/128],1)[None]; o.append([lid_openings(q,fit_pose(q)).mean(),mouth_opening(q)[0]])
    return np.array(o)
m=np.load('motion_full.npy'); z=np.load('frames_final.npz'); P=z['portraits']
nets={'before':PortraitAnimator(load_params('PACKAGE/vasa_jax/pretrained/face.safetensors'),8),'ship':PortraitAnimator(load_params('OUT/ship/face.safetensors'),8)}
c={}
t=time.time()
for n,net in nets.items():
    fr=np.concatenate(list(net.render(net.prepare(P[2]),m[:80]))); c[n]=lids(fr); print(n,round(time.time()-t),flush=True)
o={n:v[:,0]/np.percentile(v[:,0],75) for n,v in c.items()}
k=int(o['before'].argmin()); near=[i for i in (k-2,k-1,k,k+1,k+2) if 0<=i<80]
print('deepest',k,{n:[round(float(v),2) for v in x[near]] for n,x in o.items()},'min',{n:round(float(x.min()),2) for n,x in o.items()}, 'r lids',round(float(np.corrcoef(o['before'],o['ship'])[0,1]),3),'r mouth',round(float(np.corrcoef(c['before'][:,1],c['ship'][:,1])[0,1]),3),'mouth spread',{n:round(float(v[:,1].std()),4) for n,v in c.items()},flush=True)
mk=int(c['before'][:,1].argmax()); rows=[]
for i in (1,5,10,16,28,21):
    net=nets['ship']; fr=np.concatenate(list(net.render(net.prepare(P[i]),m[[0,near[0],k,min(k+1,79),mk,40,20,60]]))); rows.append(np.concatenate([P[i],*fr[[0,2,3,4]]],1))
cv2.imwrite('OUT/sheet_ship_blink.png',np.concatenate(rows)[...,::-1])
np.savez('OUT/blink_curves.npz',**c)
