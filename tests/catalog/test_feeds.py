"""Feeds as text: readers, columns, cells, nouns, and rows to products."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_pipeline.catalog.card import decode_card, validate_card
from catalog_pipeline.catalog.card_text import encode_card
from catalog_pipeline.catalog.feeds.cells import centimetres, fitting_key, split_list
from catalog_pipeline.catalog.feeds.columns import find_columns
from catalog_pipeline.catalog.feeds.nouns import noun_of_type, singular
from catalog_pipeline.catalog.feeds.products import FeedProduct, read_products
from catalog_pipeline.catalog.feeds.readers import as_text, open_feed
from catalog_pipeline.catalog.keys import validate_sku
from catalog_pipeline.errors import CatalogError, ConfigurationError


def cells_of(path: Path) -> list[tuple[int, tuple[str, ...]]]:
    with open_feed(path) as table:
        return [(1, table.columns), *table.rows]


def products(*lines: Sequence[str], **chosen: str) -> list[FeedProduct]:
    header, *rows = lines
    return list(read_products(enumerate(map(tuple, rows), 2), find_columns(header, chosen)))


def one(*lines: Sequence[str], **chosen: str) -> FeedProduct:
    (product,) = products(*lines, **chosen)
    assert product.problems == ()
    return product


def problems(*lines: Sequence[str]) -> list[str]:
    return [str(remark) for product in products(*lines) for remark in product.problems]


# --- readers -----------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_text_is_read_whatever_its_encoding_and_separator(
    tmp_path: Path, encoding: str, separator: str
) -> None:
    rows = [
        ("sku", "name", "photos"),
        ("00123", "Krug, groß; 3|4", "a.jpg"),
        ("7", "青い\nマグ", ""),
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    path = tmp_path / "feed.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    assert [cells for _, cells in cells_of(path)] == rows


def test_a_separator_line_is_obeyed_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_text("sep=;\nsku;a,b\n1;2,3\n", "utf-8")
    assert cells_of(path)[1:] == [(3, ("1", "2,3"))]


def test_rows_are_counted_as_a_spreadsheet_does(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_text('sku,name\n1,"two\nlines"\n\n3,x\n', "utf-8")
    assert [number for number, cells in cells_of(path) if cells] == [1, 2, 4]


def test_parquet_and_excel_give_text(tmp_path: Path) -> None:
    import openpyxl
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {"sku": ["00123", "7"], "height_cm": [9.0, None], "photos": [["a, b.jpg", "c.jpg"], []]}
    )
    pq.write_table(table, tmp_path / "feed.parquet")
    assert cells_of(tmp_path / "feed.parquet")[1:] == [
        (2, ("00123", "9", "a, b.jpg\nc.jpg")),
        (3, ("7", "", "")),
    ]
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["sku", "name", "height_cm"])
    sheet.append([123, "Mug", 9.5])
    sheet.append([456, True, 0.1 + 0.2])
    sheet.append(["00789", None, 4006381333931.0])
    sheet["A3"].number_format = "00000"
    book.save(tmp_path / "feed.xlsx")
    assert cells_of(tmp_path / "feed.xlsx")[1:] == [
        (2, ("123", "Mug", "9.5")),
        (3, ("00456", "true", "0.3")),
        (4, ("00789", "", "4006381333931")),
    ]


def test_what_is_no_feed_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str, data: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises((ConfigurationError, CatalogError)) as caught:
            cells_of(path)
        return str(caught.value)

    assert "ends in .ods; expected a feed that ends in .csv" in refused("feed.ods", b"")
    assert "is empty; expected a first row" in refused("feed.csv", b"")
    assert "is not UTF-8 text" in refused("feed.csv", "sku,n\n1,Köln\n".encode("cp1252"))
    assert "is not well-formed CSV: row 3" in refused("feed.csv", b'sku,n\n1,a\n2,"open\n')
    assert "is not a readable Parquet file" in refused("feed.parquet", b"PAR1 no")
    assert "is not a readable Excel file" in refused("feed.xlsx", b"PK no")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert "install catalog-pipeline[excel], or save the sheet as CSV" in refused("a.xlsx", b"")
    with pytest.raises(CatalogError, match=r"cannot read .*No such file"):
        cells_of(tmp_path / "absent.csv")


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=3, max_size=3
        ),
        max_size=4,
    )
)
def test_every_csv_that_is_written_well_is_read_as_it_is(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([["sku", "name", "tags"], *rows])
    path.write_bytes(text.getvalue().encode("utf-8"))
    assert [list(cells) for _, cells in cells_of(path)[1:]] == rows


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (123.0, "123"), (float("nan"), ""), (0.5, "0.5"), (b"x", "x"), (["a", 1], "a\n1")],
)
def test_a_value_with_a_type_becomes_its_shortest_text(value: Any, text: str) -> None:
    assert as_text(value) == text


# --- cells and nouns ---------------------------------------------------------


def test_a_list_is_parted_by_its_strongest_separator() -> None:
    assert split_list("a.jpg, b.jpg") == ("a.jpg", "b.jpg")
    assert split_list("a, b.jpg | c.jpg") == ("a, b.jpg", "c.jpg")
    assert split_list("a;b.jpg\r\nc.jpg\n") == ("a;b.jpg", "c.jpg")
    assert split_list("  ") == ()


@pytest.mark.parametrize(
    ("cell", "text"),
    [("12 cm", "12"), ("9,5cm", "9.5"), ("120mm", "12"), ("4.7 in", "11.938"), ('10"', "25.4")],
)
def test_lengths_become_centimetres(cell: str, text: str) -> None:
    assert centimetres(cell, unit_required=True) == text


@pytest.mark.parametrize("cell", ["tall", "1,000 cm", "-3 cm", "5 kg", "12"])
def test_what_is_no_length_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="no length; expected a number with its unit"):
        centimetres(cell, unit_required=True)


@pytest.mark.parametrize(
    ("text", "noun"),
    [
        ("Home & Garden > Kitchen > Mugs", "mug"),
        ("Coffee  Mugs", "coffee mug"),
        ("Accessories", "accessory"),
        ("Watches", "watch"),
        ("Dresses", "dress"),
        ("T-Shirts", "t-shirt"),
        ("Jeans", "jeans"),
        ("Hoodies", "hoodie"),
        ("Shoes", "shoe"),
        ("Kitchen Knives", "kitchen knife"),
        ("Vases", "vase"),
        ("Cactus", "cactus"),
        ("Men's shoes", "men's shoe"),
    ],
)
def test_a_type_gives_a_noun(text: str, noun: str) -> None:
    assert noun_of_type(text) == (noun, "")


@pytest.mark.parametrize("text", ["Mugs & Cups", "2169", "食器 > マグ", "Kitchen >", "a b c d e f"])
def test_a_type_that_is_no_plain_english_noun_gives_none_and_says_so(text: str) -> None:
    noun, why = noun_of_type(text)
    assert noun == ""
    assert why


@given(st.from_regex(r"[a-z]{1,12}", fullmatch=True))
def test_the_singular_is_never_longer_nor_empty(word: str) -> None:
    assert 0 < len(singular(word)) <= len(word)


@given(st.text())
def test_what_is_proposed_as_a_sku_is_one(name: str) -> None:
    fitting = fitting_key(name)
    if fitting:
        assert validate_sku(fitting) == fitting


# --- columns -----------------------------------------------------------------


def test_columns_are_known_by_name_whatever_case_and_spaces() -> None:
    found = find_columns(
        ["SKU ", "Class Noun", "name_ja", "names.pt-BR", "name_tag", "image 2", "IMAGE_1", "Vendor"]
    )
    assert (found.one["sku"], found.one["class_noun"]) == (0, 1)
    assert found.languages == {"ja": 2, "pt-BR": 3}
    assert found.photos == (6, 5)
    assert found.ignored == ("name_tag", "Vendor")


def test_a_column_can_be_chosen() -> None:
    product = one(
        ("Article", "Bild", "sku", "品名"),
        ("00123", "a.jpg", "other", "マグ"),
        **{"sku": "article", "photos": "Bild", "names.ja": "品名"},
    )
    assert (product.sku, product.card) == ("00123", {"names": {"ja": "マグ"}})
    assert [photo.text for photo in product.photos] == ["a.jpg"]


@pytest.mark.parametrize(
    ("header", "chosen", "message"),
    [
        (["name"], {}, r"no column for the SKU; got 'name'.*--column sku=COLUMN"),
        (["sku", "SKU"], {}, "2 columns called 'sku'"),
        (["sku"], {"colour": "x"}, "there is no field 'colour'; expected one of sku"),
        (["sku"], {"name": "Titel"}, "no column 'Titel'; expected one of 'sku'"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(
    header: list[str], chosen: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        find_columns(header, chosen)


# --- products ----------------------------------------------------------------


def test_own_names() -> None:
    product = one(
        ("sku", "name", "class_noun", "tags", "height_cm", "mode", "photos", "anchor_photos"),
        ("00123", "Blue\u00a0mug", "coffee mug", "new; blue", "9,5", "exact", "a.jpg|b.jpg", "a"),
    )
    assert product.sku == "00123"
    assert product.card == {
        "name": "Blue mug",
        "class_noun": "coffee mug",
        "tags": ["new", "blue"],
        "height_cm": "9.5",
        "mode": "exact",
        "anchor_photos": ["a"],
    }
    assert [photo.text for photo in product.photos] == ["a.jpg", "b.jpg"]
    assert product.warnings == ()


def test_google_merchant_names() -> None:
    product = one(
        (
            *("id", "title", "description", "additional image link", "image link"),
            *("google_product_category", "product type", "product_height", "additional_image_link"),
        ),
        ("G1", "Mug", "-", "b.jpg,c.jpg", "a.jpg", "2169", "Kitchen > Mugs", "4.7 in", "d.jpg"),
    )
    assert product.card["class_noun"] == "mug"
    assert product.card["category"] == "Kitchen > Mugs"
    assert product.card["height_cm"] == "11.938"
    assert [photo.text for photo in product.photos] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


SHOPIFY = ("Handle", "Title", "Body (HTML)", "Type", "Variant SKU", "Image Src", "Image Position")


def test_shopify_rows_of_one_handle_are_one_product() -> None:
    blue, jug = products(
        SHOPIFY,
        ("blue", "Blue", "<p>", "Mugs", "'00124", "b.jpg", "2"),
        ("blue", "", "", "", "", "a.jpg", "1"),
        ("blue", "", "", "", "", "b.jpg", "3"),
        ("jug", "Jug", "", "Mugs & Cups", "J1", "j.jpg", "1"),
        ("jug", "", "", "", "J2", "", ""),
    )
    assert (blue.sku, blue.row, blue.card["class_noun"]) == ("00124", 2, "mug")
    assert [(photo.text, photo.row) for photo in blue.photos] == [("a.jpg", 3), ("b.jpg", 2)]
    assert jug.sku == "jug"
    assert "class_noun" not in jug.card
    said = [str(warning) for warning in jug.warnings]
    assert "its 2 variants (J1, J2) are one product" in said[0]
    assert "'Mugs & Cups' is not one kind of product" in said[1]


def test_the_examples_of_the_documentation_are_read_as_they_stand(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/catalog.md").read_text("utf-8")
    section = page.partition("## From a feed")[2]
    blocks = re.findall(r"```\n(.*?)```", section, flags=re.DOTALL)
    skus = []
    for number, block in enumerate(blocks[1:4]):
        path = tmp_path / f"{number}.csv"
        path.write_text(re.sub(" {2,}", "\t", block), "utf-8")
        with open_feed(path) as table:
            read = list(read_products(table.rows, find_columns(table.columns)))
        assert [product.problems for product in read] == [()] * len(read)
        assert [len(product.photos) for product in read] in ([1, 3], [3])
        assert {product.card["class_noun"] for product in read} <= {"mug", "jug"}
        skus += [product.sku for product in read]
    assert skus == ["00123", "jug-7", "G-100", "00124"]


def test_everything_wrong_with_a_row_is_said() -> None:
    header = ("sku", "name", "class_noun", "height")
    said = problems(
        header,
        ("Krug 12/ä", "x", "one two three four five six", "12"),
        ("", "x"),
        ("a", "x", "mug", "", "more"),
    )
    expected = [
        "row 2 (sku Krug 12/ä): 'Krug 12/ä' cannot be a SKU: it holds a character outside ASCII; "
        "expected 1 to 63 characters of A-Z a-z 0-9 . _ - that begin with a letter or a digit; "
        "use 'Krug-12-a', say",
        "row 2 (sku Krug 12/ä): height '12' is no length; expected a number with its unit such as "
        "'12 cm', '120 mm' or '4.7 in'",
        "row 2 (sku Krug 12/ä): 'class_noun' = 'one two three four five six': has 6 words",
        "row 3: it has no SKU; expected one; write it",
        "row 4 (sku a): it has 5 cells; expected at most 4, one a column; put values that hold the "
        "separator in quotes",
    ]
    assert [text[: len(start)] for text, start in zip(said, expected, strict=True)] == expected
    (formula,) = problems(header, ("A", "#N/A", "mug", ""))
    assert "name holds #N/A, the error of a formula" in formula
    (unfinished,) = problems(header, ("A.tmp", "x", "mug", ""))
    assert "'A.tmp' ends as an unfinished copy does" in unfinished


def test_a_sku_that_comes_back_is_said_even_where_that_row_is_wrong_besides() -> None:
    header = ("sku", "height_cm")
    said = problems(header, ("A", "1"), ("B", "1"), ("A", "tall"))
    assert "row 4 (sku A): this SKU stands in row 2 as well" in said[0]
    assert "height_cm 'tall' is no length" in said[1]


_WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": _WORDS,
            "names": st.dictionaries(st.sampled_from(["ja", "no", "pt-BR"]), _WORDS, max_size=2),
            "tags": st.lists(_WORDS, max_size=3),
            "height_cm": st.floats(0.01, 9999).map(lambda size: f"{size:g}"),
        },
    )
)
def test_a_card_that_is_written_reads_the_same(card: dict[str, Any]) -> None:
    assert decode_card("sku.yaml", encode_card(card)) == validate_card(card)
