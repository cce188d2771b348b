"""The program that trains a base model like the embedded one, from nothing.

Stages, in the order of :mod:`.program`: corpus (sprites, backgrounds, photos),
autoencoder, tokenizer, latent bank, diffusion, export. Every stage resumes.
Run it with ``python -m catalog_pipeline.base_model.training --out DIR``.
"""
