"""A training told to the progress: epochs, loss, accuracy, images a second and the time left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.protocols import Progress

if TYPE_CHECKING:
    from autoprune.training.loop import EpochReport
    from autoprune.training.pace import Standing

__all__ = ["TrainingShown"]


class TrainingShown:
    """Goes between a training and the progress; ``scored`` says what the accuracy is of."""

    def __init__(self, progress: Progress, scored: str = "") -> None:
        self._progress = progress
        self._scored = scored
        self._epoch = 0

    def on_epoch(self, report: EpochReport) -> None:
        """A training that goes on where it was cut counts the epochs from before, too."""
        done, self._epoch = report.epoch - self._epoch, report.epoch
        text = f"loss {report.loss:.3f}, {self._scored}search-val top1 {100 * report.val_top1:.2f} %, {report.pace}"
        self._progress.advance(text, done)

    def on_step(self, standing: Standing) -> None:
        self._progress.advance(str(standing), 0)
