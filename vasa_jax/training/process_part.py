"""Which clips and how many examples of a batch belong to one of the run's processes."""

import jax


class ProcessPart:
    """One process's share: batch_size / count examples, drawn from every count-th clip."""

    def __init__(self, batch_size: int, clips: int, index: int | None = None, count: int | None = None):
        self._index = jax.process_index() if index is None else index
        self._count = jax.process_count() if count is None else count
        # With fewer clips than processes they share the clips and differ in what they draw.
        self._clips, self._stride = (clips // self._count, self._count) if clips >= self._count else (clips, 1)
        self.batch = batch_size // self._count

    def key(self, key: jax.Array) -> jax.Array:
        """A stream of this process's own; with a single process, the key itself."""
        return key if self._count == 1 else jax.random.fold_in(key, self._index)

    def draw_clips(self, key: jax.Array) -> jax.Array:
        """Random clip numbers (batch,) int32."""
        which = jax.random.randint(key, (self.batch,), 0, self._clips)
        return which * self._stride + (self._index if self._stride > 1 else 0)
