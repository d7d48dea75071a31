"""Where a training runs: not part of its recipe, but of its bits."""

from dataclasses import dataclass, replace

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
        for name in ("devices", "model_shards"):
            if not isinstance(getattr(self, name), int | None):
                raise Refused(f"{name}={getattr(self, name)!r}: give a whole number")
        if self.devices is not None and self.devices < 1:
            raise Refused(f"--devices {self.devices}: give 1 or more")
        if self.placement == "jit" and self.devices is not None:
            if self.devices > 1:
                raise Refused(
                    f"--devices {self.devices}: placement jit takes one; type: --placement pmap"
                )
            object.__setattr__(self, "devices", None)  # one place, however it is written
        if self.model_shards < 1:
            raise Refused(f"--model-shards {self.model_shards}: give 1 or more")
        if self.model_shards != 1 and self.placement != "sharded":
            raise Refused(
                f"--model-shards {self.model_shards}: placement {self.placement} divides no"
                " parameter; type: --placement sharded"
            )

    def __str__(self) -> str:
        """In words, as a run records it: "sharded over 8 devices, parameters over 2"."""
        if self.placement == "jit":
            return "jit"
        count = "all devices" if self.devices is None else f"{self.devices} devices"
        words = f"{self.placement} over {count}"
        return words + (f", parameters over {self.model_shards}" if self.model_shards > 1 else "")

    def resolved(self, there: int) -> "Place":
        """With its number of devices, where there are so many.

        Raises:
          Refused: there are fewer, or they do not divide.
        """
        if self.placement == "jit":
            return self
        count = self.devices or there
        if count > there:
            raise Refused(
                f"--devices {count}: there {'is' if there == 1 else 'are'} {there} here; give 1 to"
                f" {there}, or let a processor pass for several: JAX_PLATFORMS=cpu"
                f" JAX_NUM_CPU_DEVICES={count}"
            )
        if count % self.model_shards:
            divisors = [str(size) for size in range(1, count + 1) if count % size == 0]
            raise Refused(
                f"--model-shards {self.model_shards}: {count} devices divide by"
                f" {', '.join(divisors)}"
                if count > 1
                else f"--model-shards {self.model_shards}: one device holds every parameter whole;"
                " leave it out, or let a processor pass for several: JAX_PLATFORMS=cpu"
                f" JAX_NUM_CPU_DEVICES={self.model_shards}"
            )
        return replace(self, devices=count)

    @property
    def replicas(self) -> int:
        """Over how many a batch is divided, of a place that is resolved."""
        return 1 if self.devices is None else self.devices // self.model_shards

    @property
    def parts(self) -> int:
        """In how many parts a program sees a batch: under `sharded` it sees the whole."""
        return self.replicas if self.placement == "pmap" else 1

    def share(self, batch_size: int) -> str:
        """What of a batch lies where, in words; of a place that is resolved."""
        each = f"{batch_size // self.replicas} on each of {self.replicas}"
        what = "device" if self.model_shards == 1 else f"group of {self.model_shards} devices"
        plural = what.replace("group", "groups") if self.model_shards > 1 else f"{what}s"
        return f"a batch of {batch_size}: {each} {what if self.replicas == 1 else plural}"

    @property
    def options(self) -> str:
        """What to type for it."""
        words = f"--placement {self.placement}"
        words += "" if self.devices is None else f" --devices {self.devices}"
        return words + (f" --model-shards {self.model_shards}" if self.model_shards > 1 else "")


JIT = Place()
