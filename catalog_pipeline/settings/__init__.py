"""Typed settings over ``assets_config/*.yaml``: a mistyped key is an error.

One file a room; every file may be absent (defaults apply) and none may hold a
key that is not declared here, or one twice. A key without a value (``null``) counts as
absent. :func:`load_settings` is the only reader.
"""

from catalog_pipeline.settings.alerts import AlertSettings, SmtpSettings
from catalog_pipeline.settings.archive import ArchiveSettings
from catalog_pipeline.settings.base_model import BaseModelSettings
from catalog_pipeline.settings.catalogs import CatalogSettings
from catalog_pipeline.settings.evaluation import EvaluationSettings
from catalog_pipeline.settings.execution import ExecutionSettings, WorkerSettings
from catalog_pipeline.settings.generation import (
    CATEGORY,
    LAYOUT_COUNTS,
    AnchoringSettings,
    AttentionSettings,
    BestSellerSettings,
    BudgetSettings,
    CoverageSettings,
    CrossSellList,
    CrossSellSettings,
    GenerationSettings,
    LayoutSettings,
    PolicySettings,
    QualitySettings,
    SceneMode,
    SceneTemplate,
)
from catalog_pipeline.settings.governance import (
    CostSettings,
    EncryptionSettings,
    GovernanceSettings,
    PrivacySettings,
    ProvenanceSettings,
    RetentionSettings,
)
from catalog_pipeline.settings.languages import LanguageSettings
from catalog_pipeline.settings.learning import (
    AdapterSettings,
    EarlyStopSettings,
    LearningSettings,
    LossSettings,
    LossWeighting,
    TimestepDensity,
)
from catalog_pipeline.settings.load import (
    CONFIG_ENV,
    HOME_ENV,
    Settings,
    check_dagster_home,
    default_config_dir,
    environment,
    load_settings,
    passed_over,
)
from catalog_pipeline.settings.values import S3Settings

__all__ = [
    "CATEGORY",
    "CONFIG_ENV",
    "HOME_ENV",
    "LAYOUT_COUNTS",
    "AdapterSettings",
    "AlertSettings",
    "AnchoringSettings",
    "ArchiveSettings",
    "AttentionSettings",
    "BaseModelSettings",
    "BestSellerSettings",
    "BudgetSettings",
    "CatalogSettings",
    "CostSettings",
    "CoverageSettings",
    "CrossSellList",
    "CrossSellSettings",
    "EarlyStopSettings",
    "EncryptionSettings",
    "EvaluationSettings",
    "ExecutionSettings",
    "GenerationSettings",
    "GovernanceSettings",
    "LanguageSettings",
    "LayoutSettings",
    "LearningSettings",
    "LossSettings",
    "LossWeighting",
    "PolicySettings",
    "PrivacySettings",
    "ProvenanceSettings",
    "QualitySettings",
    "RetentionSettings",
    "S3Settings",
    "SceneMode",
    "SceneTemplate",
    "Settings",
    "SmtpSettings",
    "TimestepDensity",
    "WorkerSettings",
    "check_dagster_home",
    "default_config_dir",
    "environment",
    "load_settings",
    "passed_over",
]
