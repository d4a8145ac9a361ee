"""Frame pairs for the codec from shards: `VASADataset`'s view `pairs` with what the codec's losses read of it."""

import jax
import numpy as np

from vasa_jax.config import CorpusConfig
from vasa_jax.data.dataset import Batch, VASADataset
from vasa_jax.data.face_regions import segmentation_of

_KEPT = ("source", "driver", "source_matte", "driver_matte", "source_pose", "driver_pose", "valid_pose", "valid_matte",
         "person")  # fmt: skip


class PairShards:
    """Iterates over batches of pairs; labels that a clip lacks are zeros.

    source, driver uint8 (B, n, n, 3); source_matte, driver_matte uint8 (B, n, n); source_pose, driver_pose (B, 9);
    segmentation uint8 (B, n, n) of the driver (`segmentation_of`); valid_pose, valid_matte bool (B,); person int32
    (B,).
    """

    def __init__(self, dataset: VASADataset):
        self._batches = iter(dataset)

    @classmethod
    def of_this_process(
        cls, corpus: CorpusConfig, size: int, batch_size: int, seed: int, same_frame: float = 0.0
    ) -> "PairShards":
        """Opens this process's part of batches of `batch_size` pairs; processes read disjoint records.

        `same_frame` is the share of pairs of a frame with itself.
        """
        count = jax.process_count()
        return cls(
            VASADataset(
                corpus.shards,
                view="pairs",
                batch_size=batch_size // count,
                size=size,
                matte=True,
                same_frame=same_frame,
                seed=seed,
                workers=corpus.decoders,
                host=jax.process_index(),
                hosts=count,
                format=corpus.shard_format,
            )
        )

    @classmethod
    def held_out(cls, corpus: CorpusConfig, size: int, batch_size: int, batches: int) -> list[Batch]:
        """Returns the first and last frame of the first clips of the split `heldout`, at most `batches` full batches.

        Fewer clips make one smaller batch. InputError without that split.
        """
        settings = {"split": "heldout", "view": "pairs", "size": size, "matte": True, "shuffle": False, "epochs": 1}
        clips = len(VASADataset(corpus.shards, batch_size=1, format=corpus.shard_format, **settings))
        dataset = VASADataset(
            corpus.shards, batch_size=min(batch_size, clips), format=corpus.shard_format, **settings
        )
        pairs = cls(dataset)
        return [next(pairs) for _ in range(min(batches, clips // min(batch_size, clips)))]

    def __iter__(self) -> "PairShards":
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        size = batch["driver"].shape[1]
        segmentation = [
            segmentation_of(
                batch["driver_matte"][row] if batch["valid_matte"][row] else None,
                batch["driver_landmarks"][row] if batch["valid_landmarks"][row] else None,
                size,
            )
            for row in range(len(batch["driver"]))
        ]
        return {**{name: batch[name] for name in _KEPT}, "segmentation": np.stack(segmentation)}

    def state(self) -> dict[str, int]:
        """Returns the position, and what decides the batches."""
        return self._batches.state()

    def restore(self, state: dict[str, int]) -> None:
        """Goes on where `state` was taken; InputError names a setting that differs."""
        self._batches.restore(state)

    def close(self) -> None:
        """Ends the processes that decode."""
        self._batches.close()
