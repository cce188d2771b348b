"""``governance.yaml``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from catalog_pipeline.settings.values import NotBlank, SecretValueError, Strict


def _master_key(text: str) -> str:
    if not re.fullmatch(r"(?:file|kms):\S.*", text):
        raise SecretValueError("expected file:/path/of/key or kms:alias/name, never the key itself")
    return text


MasterKey = Annotated[NotBlank, AfterValidator(_master_key)]


def _file_of_key(path: Path) -> Path:
    if re.search(r"-----BEGIN|[\r\n]|^[0-9a-fA-F]{32,}$", str(path)):
        raise SecretValueError("expected the path of a file, never the key itself")
    return path


KeyFile = Annotated[Path, AfterValidator(_file_of_key)]


class EncryptionSettings(Strict):
    """Encryption at rest: a data key a SKU, wrapped by one master key."""

    master_key: MasterKey | None = Field(
        None,
        description="file:/path of 32 bytes in hex or base64, or kms:key of a key service; null = "
        "nothing is encrypted",
    )
    pictures: bool = Field(False, description="encrypt the pictures of nights, too")


class ProvenanceSettings(Strict):
    """What a picture says of itself. A relative path is one in the settings folder."""

    metadata: bool = Field(
        True, description="XMP in every picture: made by a model, by which job and versions"
    )
    certificate: Path | None = Field(
        None, description="certificate chain (PEM) to sign pictures with; null = not signed"
    )
    private_key: KeyFile | None = Field(None, description="its key (PEM)")
    watermark: bool = Field(False, description="an invisible mark in the pixels of new pictures")
    watermark_key: KeyFile | None = Field(
        None, description="file of the secret that the mark is made with; keep it for ever"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> ProvenanceSettings:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together; set both or neither")
        if self.watermark and self.watermark_key is None:
            raise ValueError(
                "watermark is on without a watermark_key; make one with "
                "`catalog-pipeline watermark-key FILE`"
            )
        return self


class RetentionSettings(Strict):
    """How long what shows photos or unreleased pictures is kept where `gc` may remove it."""

    quarantine_days: int = Field(
        90, ge=1, le=36500, description="refused candidates and held back pictures"
    )
    report_days: int = Field(
        365,
        ge=1,
        le=36500,
        description="galleries, night reports, evaluations, previews: pages that show photos",
    )


class PrivacySettings(Strict):
    """Differential privacy that is asked of learning; docs/governance/privacy.md."""

    epsilon: float | None = Field(
        None,
        gt=0,
        description="learning is refused with one, and told what noise it would need; null = no "
        "such promise",
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="chance that the promise does not hold")


class CostSettings(Strict):
    """What the cost report counts with."""

    currency: NotBlank = Field("EUR", description="of every price here")
    watts: float = Field(65, ge=0, le=100_000, description="that the machine draws under load")
    price_per_kwh: float = Field(0.25, ge=0, le=1000, description="of electricity")
    machine_price_per_hour: float = Field(
        0.10, ge=0, le=10_000, description="of the machine, without electricity"
    )
    storage_price_per_gb_month: float = Field(0.025, ge=0, le=1000, description="of storage")
    studio_price_per_picture: float = Field(
        25, ge=0, le=100_000, description="what a photo studio asks for a picture"
    )
    studio_minutes_per_picture: float = Field(
        20, ge=0, le=100_000, description="work that a picture of a studio costs"
    )
    hosted_price_per_sku: float = Field(
        4, ge=0, le=100_000, description="what a hosted trainer asks for a product"
    )
    hosted_price_per_picture: float = Field(0.03, ge=0, le=1000, description="and for a picture")


class GovernanceSettings(Strict):
    """Privacy, provenance and cost."""

    encryption: EncryptionSettings = Field(
        EncryptionSettings(), description="of what is stored of products"
    )
    provenance: ProvenanceSettings = Field(
        ProvenanceSettings(), description="of pictures that leave"
    )
    retention: RetentionSettings = Field(RetentionSettings(), description="of what shows photos")
    privacy: PrivacySettings = Field(
        PrivacySettings(), description="differential privacy of learning"
    )
    cost: CostSettings = Field(CostSettings(), description="what `cost-report` counts with")
