"""What learning and generation share: the frozen base, the concept adapter, latent sampling."""

import logging

# Where it is installed, libraries import it unasked, and it warns of a kernel that it would fetch.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
