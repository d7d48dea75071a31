"""How far a run is, and how long it will take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """What the loop reports about once a second.

    Attributes:
      phase: "compiling", "training", "evaluating test" or "evaluating train".
      part: of the whole run's time that has passed, 0 to 1; evaluation is in it.
      images_per_second: while training; 0 before the first dispatch.
      seconds_left: None while nothing was measured.
      figure: a metric of the epoch's batches so far, in words.
    """

    phase: str
    step: int
    steps: int
    epoch: int
    part: float = 0.0
    images_per_second: float = 0.0
    seconds_left: float | None = None
    figure: str = ""


class Clock:
    """How long a run will take: training and evaluation by what an image took so far."""

    def __init__(self, steps: int, per_epoch: int, batch_size: int, train: int, test: int):
        self.steps, self.per_epoch, self.batch_size = steps, per_epoch, batch_size
        self.sizes = {"train": train, "test": test}  # examples
        self.step_seconds: float | None = None
        self.image_seconds: float | None = None  # of evaluation

    def trained(self, steps: int, seconds: float) -> None:
        self.step_seconds = seconds / steps

    def evaluated(self, split: str, seconds: float) -> None:
        self.image_seconds = seconds / self.sizes[split]

    def progress(self, phase: str, step: int, figure: str = "", part: float = 0.0) -> Progress:
        """At `step`; `part` of a split that is being evaluated is done."""
        epoch = min(step, self.steps - 1) // self.per_epoch
        if self.step_seconds is None:
            return Progress(phase, step, self.steps, epoch, step / self.steps)
        # A forward pass is about a third of a step, until one was timed.
        image = self.image_seconds or self.step_seconds / self.batch_size / 3
        epochs = -(-self.steps // self.per_epoch)
        judged = max(-(-step // self.per_epoch) - 1, 0) + part * (phase == "evaluating test")
        seen = judged * self.sizes["test"]
        if phase == "evaluating train":  # the last thing that a run does
            seen = epochs * self.sizes["test"] + part * self.sizes["train"]
        whole = epochs * self.sizes["test"] + self.sizes["train"]
        left = (self.steps - step) * self.step_seconds + (whole - seen) * image
        total = self.steps * self.step_seconds + whole * image
        rate = self.batch_size / self.step_seconds
        return Progress(phase, step, self.steps, epoch, 1 - left / total, rate, left, figure)
