"""Linear probes: what ridge regression reads off a frozen latent, on rows that the regression never saw."""

from collections.abc import Sequence

import numpy as np

STRENGTHS = tuple(10.0 ** np.arange(-4.0, 4.0))  # of the penalty, over the mean square of a standardised feature
Split = tuple[np.ndarray, np.ndarray]  # bool (N,): rows to fit on, rows to predict


def held_out_predictions(x_NF: np.ndarray, y_NT: np.ndarray, splits: Sequence[Split]) -> np.ndarray:
    """Predicts y (N, T) from x by ridge regression, for the rows that some split predicts; nan elsewhere.

    The strength is chosen per split and target by the others' rows: fitted where both splits allow, judged on what the
    other predicts and this one may see. Give at least two splits, whose predicted rows do not overlap.
    """
    x_NF, y_NT = np.asarray(x_NF, np.float64), np.asarray(y_NT, np.float64)
    result = np.full(y_NT.shape, np.nan)
    for i, (fit, predicted) in enumerate(splits):
        loss_ST = np.zeros((len(STRENGTHS), y_NT.shape[1]))
        for j, (other_fit, other_predicted) in enumerate(splits):
            judged = other_predicted & fit
            if j == i or not judged.any():
                continue
            loss_ST += np.square(_ridge(x_NF, y_NT, fit & other_fit, judged) - y_NT[judged]).sum(1)
        found_SNT = _ridge(x_NF, y_NT, fit, predicted)
        result[predicted] = np.take_along_axis(found_SNT, loss_ST.argmin(0)[None, None], 0)[0]
    return result


def r_squared(predictions_NT: np.ndarray, y_NT: np.ndarray) -> np.ndarray:
    """Returns (T,) the share of explained variance over the predicted rows; 0 = as the mean, below = worse."""
    rows = np.isfinite(predictions_NT).all(-1)
    found, truth = predictions_NT[rows], np.asarray(y_NT, np.float64)[rows]
    left = np.square(found - truth).sum(0)
    return 1.0 - left / np.maximum(np.square(truth - truth.mean(0)).sum(0), 1e-12)


def class_accuracy(x_NF: np.ndarray, label_N: np.ndarray, splits: Sequence[Split]) -> float:
    """Returns the share of predicted rows whose class has the largest prediction of regressed one-hot vectors."""
    classes, number_N = np.unique(label_N, return_inverse=True)
    predictions = held_out_predictions(x_NF, np.eye(len(classes))[number_N], splits)
    rows = np.isfinite(predictions).all(-1)
    return float((predictions[rows].argmax(-1) == number_N[rows]).mean())


def splits_by_block(fit_blocks_NB: np.ndarray) -> list[Split]:
    """Returns one split per block number: predict the rows that are in it by every column, fit on those by none.

    Rows with columns in different blocks are only fitted on, and only where no column is in the predicted block.
    """
    blocks = np.asarray(fit_blocks_NB)
    blocks = blocks[:, None] if blocks.ndim == 1 else blocks
    return [((blocks != b).all(-1), (blocks == b).all(-1)) for b in np.unique(blocks)]


def _ridge(x_NF: np.ndarray, y_NT: np.ndarray, fit: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Predicts (S, rows, T) with every one of STRENGTHS; features are standardised by the rows that are fitted on."""
    mean, spread = x_NF[fit].mean(0), np.maximum(x_NF[fit].std(0), 1e-9)
    x, new = (x_NF[fit] - mean) / spread, (x_NF[predicted] - mean) / spread
    offset = y_NT[fit].mean(0)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    turned = vectors.T @ (x.T @ (y_NT[fit] - offset)) / len(x)
    new = new @ vectors
    return np.stack([new @ (turned / (np.maximum(values, 0.0) + s)[:, None]) + offset for s in STRENGTHS])
