"""What families have in common that read the VAE's latents in patches, as one sequence.

Latents are those of the VAE in patches of 2 x 2, ``(batch, 4 * channels, h, w)``, normed channel
by channel: what the pipelines pack into a sequence.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from catalog_pipeline.diffusion.families.joint_transformer import JointTransformer


class PackedTransformer(JointTransformer):
    """The transformer takes patches in a row and is told the place of each."""

    vae_reads_frames: ClassVar[bool] = False
    """Whether the VAE is one of videos: a picture is one frame."""

    @property
    @abstractmethod
    def latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the channels of a patch, ``(4 * channels,)`` each."""

    @abstractmethod
    def places(self, height: int, width: int, texts: Tensor) -> dict[str, Any]:
        """Arguments of the transformer: where patches and words stand.

        Texts of all regions stand at the same places. ``texts`` is ``(batch, regions, tokens,
        width)``, ``height`` and ``width`` are of the latents.
        """

    def split_padding(self, encoder_hidden_states: Tensor) -> tuple[Tensor, Tensor | None]:
        """The texts, and which of their rows are words, ``(batch, regions, tokens)``.

        ``None`` where every row is read.
        """
        return encoder_hidden_states, None

    def encode(self, pixels: Tensor) -> Tensor:
        """The mode of the posterior in patches, ``(x - mean) / deviation``."""
        pixels = pixels.to(self.vae.dtype)
        if self.vae_reads_frames:
            latents = self.vae.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
        else:
            latents = self.vae.encode(pixels).latent_dist.mode()
        mean, deviation = (x[:, None, None] for x in self.latent_statistics)
        return (nn.functional.pixel_unshuffle(latents.float(), 2) - mean) / deviation

    def decode(self, latents: Tensor) -> Tensor:
        """``(batch, channels, h, w)`` -> ``(batch, 3, height, width)``."""
        mean, deviation = (x[:, None, None] for x in self.latent_statistics)
        latents = nn.functional.pixel_shuffle(latents.float() * deviation + mean, 2)
        latents = latents.to(self.vae.dtype)
        if self.vae_reads_frames:
            return self.vae.decode(latents[:, :, None], return_dict=False)[0][:, :, 0].float()
        return self.vae.decode(latents, return_dict=False)[0].float()

    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        encoder_hidden_states: Tensor,
        masks: Tensor | None,
    ) -> Tensor:
        """One pass; the texts of all regions stand one behind the other, at the same places."""
        height, width = noisy_latents.shape[-2:]
        texts, valid = self.split_padding(encoder_hidden_states)
        patches = noisy_latents.flatten(2).mT  # (batch, h * w, channels)
        with self.regions.reading(texts, masks, valid):
            model_pred = self.transformer(
                hidden_states=patches.to(self.dtype),
                encoder_hidden_states=texts.flatten(1, 2).to(self.dtype),
                timestep=timesteps.to(self.dtype) / 1000,
                **self.places(height, width, texts),
                return_dict=False,
            )[0]
        return model_pred.float().mT.unflatten(2, (height, width))
