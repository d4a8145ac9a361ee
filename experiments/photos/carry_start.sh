set -e
W=TMP/w; mkdir -p $W; cp -r .carry/photos/. $W/
cp "$(find . -name face.safetensors -size +5M | head -1)" $W/face.safetensors
cd $W; tar xzf code.tgz
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target TMP/site whl/*.whl
export PYTHONPATH=$W/pkg:$W/puppet:TMP/site JAX_COMPILATION_CACHE_DIR=TMP/cache JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=4 XLA_PYTHON_CLIENT_MEM_FRACTION=.88 PUPPETS=1700 PYTHONUNBUFFERED=1
nvidia-smi --query-gpu=name,memory.total --format=csv,noheader; nproc; free -g | head -2
CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu setsid nohup python3 puppet/build.py stills.npz conn/face_mesh_connections.py /dev/shm/built 12 > build.log 2>&1 &
setsid nohup python3 puppet/train.py out /dev/shm/built conn/face_mesh_connections.py face.safetensors grid.npz london.npz --end $(( $(date +%s) + ${1:-1600} )) --decay ${2:-330} > train.log 2>&1 &
date +%s > started
sleep 2
