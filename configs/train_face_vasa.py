r"""Stage 1 by VASA-1's own recipe: pairs of one clip, l_consist and l_cross_id, no rendered cross-identity truth.

python -m vasa_jax.main --config configs/train_loss_networks.py --workdir runs/judge
python -m vasa_jax.main --config configs/train_face_vasa.py --workdir runs/face_vasa \
    --config.face.loss_networks=runs/judge/export

From shards (of real videos, say) instead of the renderer: --config.corpus.shards=DIR. At 128 pixels, as here, this is
to be compared with train_face.py: same variant, steps and base terms; figures on the same held-out heads. 2,500
updates gave 19.0 dB by the same person and 18.5 dB across people (configs/evaluate_face.py), 22.1 and 21.0 dB without
both losses.

Ablations by weights. They are arguments of one compiled program, so these runs share its compilation and its step time:

    without l_consist     --config.face.pairwise_transfer=0
    without l_cross_id    --config.face.cross_identity=0
    without both          --config.face.pairwise_transfer=0 --config.face.cross_identity=0

Starting weights: DPE's precedent for the pairwise term, EMOPortraits' 35 for identity against a perceptual sum of about
20, here scaled to base terms of size 1; MegaPortraits' 4 to 20 for the face against the whole picture. A tenth of the
pairs is a frame with itself: DPE's pairwise term does not train without.
"""

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        train=TrainConfig(
            steps=24_000,
            batch_size=64,
            learning_rate=1e-3,
            evaluate_every=4_000,
            save_every=4_000,
            best_metric="psnr_self",
        ),
        corpus=CorpusConfig(groups=2048, chunk=1),
        face=FaceConfig(
            variant="face_demo_128",
            recipe="self",
            pairwise_transfer=1.0,
            cross_identity=1.0,
            perceptual=0.5,
            face_perceptual=0.1,
            same_frame=0.1,
            transfer_from=2_000,
            crop_warp=0.1,
            pose_pool=0.5,
        ),
    ).to_config_dict()
