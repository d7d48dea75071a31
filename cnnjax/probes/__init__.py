"""What a study looks at inside a network while it trains. Importing it registers the probes."""

from cnnjax.probes import gradients as gradients
from cnnjax.probes import receptive_field as receptive_field
from cnnjax.probes import responses as responses
from cnnjax.probes import shifts as shifts
