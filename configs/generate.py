r"""Any portrait, any speech:

python -m vasa_jax.main --config configs/generate.py \
    --config.image=me.jpg --config.audio=hello.wav --config.output=hello.mp4

Many videos with one loading of the networks, one JSON object a line with image, audio, output and any control:

python -m vasa_jax.main --config configs/generate.py --config.jobs=list.jsonl

--config.size=512 makes finer frames, filled with the portrait's own pixels.

What the video is for: --config.backdrop=transparent (or blur, green, a picture) with --config.output=hello.webm, .mov
or .zip of PNG pictures; --config.shape=portrait or landscape; --config.fps=30; --config.subtitles=hello.srt; and,
without sound, --config.idle=4 for a silent loop of four seconds (docs/generation.md).

Also: --config.paste=True for the whole photograph instead of a square of it, --config.background=white behind a
cut-out, --config.image=clip.mp4 for a video's frame, and config.limits.hours, streams, megapixels and memory for what a
file may ask of this machine.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="generate").to_config_dict()
