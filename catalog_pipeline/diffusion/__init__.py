"""What learning and generation share: the frozen base, the concept adapter, latent sampling."""
