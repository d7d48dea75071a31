"""Where a training runs: not part of its recipe, but of its bits."""

from dataclasses import dataclass

from cnnjax.core.errors import Refused, unknown

PLACEMENTS = ("jit", "pmap", "sharded")


@dataclass(frozen=True)
class Place:
    """A placement in words; `training.placement.make_placement` makes it.

    Attributes:
      placement: jit (one device), pmap (the devices of a host) or sharded (a mesh of devices).
      devices: how many; None: all that there are, one for jit.
      model_shards: of sharded: over how many devices each parameter is divided.
    """

    placement: str = "jit"
    devices: int | None = None
    model_shards: int = 1

    def __post_init__(self):
        if self.placement not in PLACEMENTS:
            raise unknown("placement", self.placement, PLACEMENTS)
        if self.devices is not None and self.devices < 1:
            raise Refused(f"--devices {self.devices}: give 1 or more")
        if self.placement == "jit" and self.devices not in (None, 1):
            raise Refused(
                f"--devices {self.devices}: placement jit takes one; type: --placement pmap"
            )
        if self.model_shards < 1:
            raise Refused(f"--model-shards {self.model_shards}: give 1 or more")
        if self.model_shards != 1 and self.placement != "sharded":
            raise Refused(
                f"--model-shards {self.model_shards}: placement {self.placement} divides no"
                " parameter; type: --placement sharded"
            )

    def __str__(self) -> str:
        """As it is typed: "sharded, 8 devices, 2 model shards"."""
        words = [self.placement]
        if self.placement != "jit":
            words.append("all devices" if self.devices is None else f"{self.devices} devices")
        if self.model_shards > 1:
            words.append(f"{self.model_shards} model shards")
        return ", ".join(words)

    def replicas(self, devices: int) -> int:
        """Over how many a batch is divided, where there are so many devices."""
        return 1 if self.placement == "jit" else (self.devices or devices) // self.model_shards

    @property
    def options(self) -> list[str]:
        """Of a command that means it."""
        words = [] if self.placement == "jit" else ["--placement", self.placement]
        words += [] if self.devices is None else ["--devices", str(self.devices)]
        return words + (["--model-shards", f"{self.model_shards}"] if self.model_shards > 1 else [])


JIT = Place()
