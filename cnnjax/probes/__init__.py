"""What is looked at inside a network: the probes, which importing this package registers, and what
`cnnjax analyze` computes of trained ones (Grad-CAM, the loss around them)."""

from cnnjax.probes import gradients as gradients
from cnnjax.probes import receptive_field as receptive_field
from cnnjax.probes import responses as responses
from cnnjax.probes import shifts as shifts
