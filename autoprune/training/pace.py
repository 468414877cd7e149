"""How fast a training goes, and what is left of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

__all__ = ["Pace", "Standing", "pace_text"]


def pace_text(images_per_second: float, seconds_left: float) -> str:
    """
    >>> [pace_text(812.3, left) for left in (8.2, 754, 7510)]
    ['812 images/s, 8 s left', '812 images/s, 13 min left', '812 images/s, 2 h 05 min left']
    """
    whole = round(seconds_left)
    if whole < 60:
        left = f"{whole} s"
    else:
        hours, minutes = divmod(round(whole / 60), 60)
        left = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
    return f"{images_per_second:,.0f} images/s, {left} left"


@dataclass(frozen=True)
class Standing:
    """Where a training is in the middle of an epoch."""

    epoch: int
    """The one that runs, from 1."""
    epochs: int
    share: float
    """Of the epoch that is done, in (0, 1)."""
    loss: float
    """Mean over the epoch so far."""
    images_per_second: float
    """Of training, in this process."""
    seconds_left: float
    """To the end of the last epoch, validations included."""

    def __str__(self) -> str:
        """
        >>> print(Standing(3, 10, 0.456, 1.25, 812.3, 754.0))
        epoch 3 46 %, loss 1.250, 812 images/s, 13 min left
        """
        pace = pace_text(self.images_per_second, self.seconds_left)
        return f"epoch {self.epoch} {100 * self.share:.0f} %, loss {self.loss:.3f}, {pace}"


class Pace:
    """Images and seconds of one process's training and validating."""

    def __init__(self) -> None:
        self._images = self._validations = 0
        self._training = self._validating = 0.0
        self._mark = time.perf_counter()

    def start(self) -> None:
        """What follows is timed."""
        self._mark = time.perf_counter()

    def trained(self, images: int) -> None:
        """So many images were trained on since the last call of any kind."""
        self._images += images
        self._training += self._lap()

    def validated(self) -> None:
        self._validations += 1
        self._validating += self._lap()

    @property
    def images_per_second(self) -> float:
        """0 before the first call of ``trained``."""
        return self._images / max(self._training, 1e-9)

    def left(self, images: int, validations: int) -> float:
        """Seconds that so much more takes, once some was trained; validations count from the first one on."""
        each = self._validating / self._validations if self._validations else 0.0
        return images / self.images_per_second + validations * each

    def _lap(self) -> float:
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        return seconds
