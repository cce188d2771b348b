"""A promise that learning does not keep is refused before anything is written."""

from __future__ import annotations

import pytest

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import GovernanceSettings, Settings
from catalog_pipeline.workflows.learn.privacy import check_privacy
from tests.builders import make_index_row
from tests.workflows.tiny_catalog import learn_all, tiny_settings, write_photos


def with_epsilon(settings: Settings, epsilon: float | None) -> Settings:
    governance = GovernanceSettings.model_validate({"privacy": {"epsilon": epsilon}})
    return settings.model_copy(update={"governance": governance})


@pytest.mark.parametrize("slots", ["per_concept", "shared"])
def test_learning_is_refused_with_the_noise_that_it_would_need(
    slots, make_settings, tiny_model_folder
):
    settings = tiny_settings(make_settings, tiny_model_folder, adapter={"rank": 2, "slots": slots})
    settings = with_epsilon(settings, 3.0)
    write_photos(settings, "A")
    with pytest.raises(ConfigurationError, match=r"3 photos .* noise of \d+\.\d times") as refused:
        learn_all(settings)
    assert f"adapter.slots: {slots}" in str(refused.value)
    assert not (settings.home / "collections").exists()


def test_the_product_with_the_most_photos_is_the_easiest(make_settings):
    settings = with_epsilon(make_settings(), 3.0)
    rows = [make_index_row("a", photo_count=8), make_index_row("b", photo_count=3)]
    with pytest.raises(ConfigurationError, match=r"120 steps of 4 of the 8 photos"):
        check_privacy(settings, rows)
    few, many = (
        float(str(error).partition("noise of ")[2].partition(" times")[0])
        for error in (refusal(settings, 8), refusal(settings, 8000))
    )
    assert few > 5 * many


def refusal(settings: Settings, photos: int) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        check_privacy(settings, [make_index_row("a", photo_count=photos)])
    return refused.value


def test_without_an_epsilon_nothing_is_asked(make_settings):
    assert check_privacy(make_settings(), [make_index_row("a")]) is None
