import sys, glob, io, numpy as np, json
from flax import traverse_util
from vasa_jax.weights.safetensors_io import load_params, save_params
import jax.numpy as jnp
folder, out, stem = sys.argv[1:4]
raw = b''.join(open(f,'rb').read() for f in sorted(glob.glob(f'{folder}/{stem}.part*')))
z = np.load(io.BytesIO(raw)); step=int(z['step'])
_, meta = load_params('PACKAGE/vasa_jax/pretrained/face.safetensors')
meta['fields']['decoder']['cubic'] = True; meta['step'] = step; meta['recipe'] = 'photographs'
ema = traverse_util.unflatten_dict({k[4:]: z[k] for k in z.files if k.startswith('ema.')}, sep='.')
save_params(f'{out}/face.safetensors', ema, meta)
save_params(f'{out}/ema_f32.safetensors', ema, meta, dtype=jnp.float32)
save_params(f'{out}/params_f32.safetensors', traverse_util.unflatten_dict({k[7:]: z[k] for k in z.files if k.startswith('params.')}, sep='.'), meta, dtype=jnp.float32)
print('step', step)
