"""Scenes and negative prompts of a home in other languages."""

from __future__ import annotations

from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.scene_words import scene_notes
from catalog_pipeline.workflows.upkeep.doctor_words import check_words

SCENES = {
    "scenes": [
        {"name": "wood", "text": "木のテーブルの上", "negative_prompt": "低画質、文字"},
        {"name": "snow", "text": "in the snow"},
    ],
    "negative_prompt": "Wasserzeichen, geringe Qualität",
}


def test_scenes_are_the_english_ones_to_every_workflow(shop) -> None:
    home = Home(shop.configured(generation=SCENES, learning={"scenes": ["雪の中", "on a road"]}))
    wood, snow = home.settings.generation.scenes
    assert (wood.text, wood.negative_prompt) == ("on a wooden table", "low quality, text")
    assert (snow.text, snow.negative_prompt) == ("in the snow", None)
    assert home.settings.generation.negative_prompt == "watermark, low quality"
    assert home.settings.learning.scenes == ("in the snow", "on a road")
    assert home.written.generation.scenes[0].text == "木のテーブルの上"


def test_english_settings_are_the_very_same(shop, no_encoder) -> None:
    home = shop.home
    assert home.settings is home.written


def test_a_base_of_many_languages_gets_what_was_typed(shop, tmp_path, no_encoder) -> None:
    folder = tmp_path / "qwen"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "QwenImagePipeline"}')
    home = Home(shop.configured(generation=SCENES, base_model={"base_model": str(folder)}))
    assert home.settings is home.written


def test_doctor_names_what_cannot_be_read_and_what_the_base_does_not_know(shop) -> None:
    shop.put("A", "class_noun: samovar")
    shop.put("B", "class_noun: vase")
    scenes = [
        {"name": "price", "text": "安い値段で"},
        {"name": "rink", "text": "on an ice rink"},
        {"name": "wood", "text": "on a wooden table"},
    ]
    home = Home(shop.configured(generation={"scenes": scenes}))
    refresh_index(home)
    home.words.read("noun", "やかん")
    home.words.keep()
    results = list(check_words(home))
    assert [result.level for result in results] == ["error", "warning", "warning", "ok"]
    price, rink, noun, count = (result.what for result in results)
    assert "generation.yaml: scene 'price': '安い値段で' is like no phrase" in price
    assert "'price'" not in rink
    assert "scene 'rink': the base was not trained on 'on an ice rink'; the nearest" in rink
    assert "A: the base was not trained on the class noun 'samovar'" in noun
    assert count == "words: 1 read from other languages and kept"
    assert home.settings.generation.scenes[0].text == "安い値段で"


def test_a_plain_text_of_a_named_language_that_is_unknown_stays_and_is_told(shop) -> None:
    shop.put("A", "class_noun: Finanzamt")
    scenes = [{"name": "tax", "text": "seit gestern"}]
    settings = shop.configured(languages={"language": "de"}, generation={"scenes": scenes})
    home = Home(settings)
    report = refresh_index(home)
    assert report.rows[0].class_noun == "finanzamt"
    assert "class_noun 'Finanzamt' is like no noun that is known and stays" in report.warnings[0]
    assert home.settings.generation.scenes[0].text == "seit gestern"
    (note,) = scene_notes(home.written, home.words)
    assert note.startswith("scene 'tax': 'seit gestern' is like no phrase that is known and stays")
