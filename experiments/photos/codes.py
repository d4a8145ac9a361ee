import numpy as np
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.weights.safetensors_io import load_params
from vasa_jax.preparation.face_backends.litert import LitertAnalyzer
from vasa_jax.preparation.landmark_labels import fit_pose, lid_openings, mouth_opening
an=LitertAnalyzer('face_models')
def read(fr):
    o=[]
    for x in fr:
        l=an.landmarks(x)
        if l is None: o.append([np.nan]*2); continue
        q=np.concatenate([l.points[:,:2]/128-1,l.points[:,2:]/128],1)[None]; o.append([lid_openings(q,fit_pose(q)).mean(),mouth_opening(q)[0]])
    return np.array(o)
z=np.load('ck1/first.npz'); rgb=z['rgb']; ph=z['photo']
old=PortraitAnimator(load_params('PACKAGE/vasa_jax/pretrained/face.safetensors'),12); new=PortraitAnimator(load_params('OUT/ship/face.safetensors'),12)
zo,zn=old.encode_motion(rgb[4]),new.encode_motion(rgb[4])
d=(zo-zn)[:,9:]; print('code error over variance',round(float((d**2).mean()/zo[:,9:].var(0).mean()),3))
for p in (1,3):
    t=read(rgb[p]); av=new.prepare(ph[p])
    for n,m in (('new codes',zn),('old codes',zo)):
        m=m.copy(); m[:,:9]=zn[:,:9]
        r=read(np.concatenate(list(new.render(av,m)))); ok=~np.isnan(r+t).any(1)
        print(p,n,'lids size',round(float(r[ok,0].std()/t[ok,0].std()),2),'mouth',round(float(r[ok,1].std()/t[ok,1].std()),2),'r',[round(float(np.corrcoef(r[ok,i],t[ok,i])[0,1]),2) for i in (0,1)],flush=True)
