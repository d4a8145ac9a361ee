# poll.sh SECONDS: waits, then brings home the newest parameters and the log
W=TMP/w; cd $W
stop=$(( $(date +%s) + $1 ))
while [ $(date +%s) -lt $stop ] && [ ! -f out/finished ]; do
  sleep 1
  if ! pgrep -f puppet/train.py > /dev/null; then echo "train.py is gone"; break; fi
done
echo "since start: $(( $(date +%s) - $(cat started) )) s"; tail -3 build.log; grep -v "^$" train.log | tail -${2:-25}; tail -2 out/log.jsonl
f=out/last.npz; [ -f out/final.npz ] && f=out/final.npz
[ -f $f ] && cp $f TMP/w/copy.npz && split -b 15900000 -d -a 1 copy.npz $OUT/$(basename $f .npz).part
gzip -c out/log.jsonl > $OUT/log.jsonl.gz 2>/dev/null; cp out/spread.npy $OUT/ 2>/dev/null
[ -f first_sent ] || { [ -f out/first.npz ] && [ $(stat -c %s out/first.npz) -lt 14000000 ] && cp out/first.npz $OUT/ && touch first_sent; }
nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader; uptime; ls -la $OUT; du -sh TMP/cache 2>/dev/null
true
