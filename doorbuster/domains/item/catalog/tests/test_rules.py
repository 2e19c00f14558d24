"""Catalogue rules, without anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from doorbuster.domains.item.catalog import DuplicateHandle, DuplicateOption, InvalidItem, Item, ItemDraft, OptionDraft
from doorbuster.domains.item.catalog.rules import becomes, check, handles_are_distinct, tidied
from doorbuster.platform import ids

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
SHOE = ItemDraft(
    handle="runner",
    title="Runner",
    option_names=("Color", "Size"),
    options=(OptionDraft(("Black", "240")), OptionDraft(("Black", "250"), sku="B250")),
)


def made(draft: ItemDraft, before: Item | None = None) -> Item:
    draft = tidied(draft)
    check(draft)
    fresh = [ids.uuid7() for _ in range(len(draft.options) + 1)]
    return becomes(draft, before, fresh, NOW if before is None else NOW + timedelta(hours=1))


def ids_of(item: Item) -> dict[tuple[str, ...], UUID]:
    return {option.values: option.id for option in item.options if option.active}


def test_same_draft_leaves_the_item_as_it_is() -> None:
    item = made(SHOE)
    assert made(SHOE, item) is not None
    assert made(SHOE, item) == item


def test_item_without_option_names_has_one_option_without_values() -> None:
    item = made(ItemDraft(handle="mug", title="Mug"))
    assert [option.values for option in item.options] == [()]


def test_options_with_equal_values_keep_their_ids() -> None:
    item = made(SHOE)
    turned = made(replace(SHOE, options=SHOE.options[::-1]), item)
    assert ids_of(turned) == ids_of(item)
    assert turned.version == item.version + 1
    assert turned.updated_at > item.updated_at
    assert turned.created_at == item.created_at


def test_option_named_by_id_keeps_it_under_new_values() -> None:
    item = made(SHOE)
    first = item.options[0].id
    renamed = made(replace(SHOE, options=(OptionDraft(("White", "240"), id=first), SHOE.options[1])), item)
    assert ids_of(renamed)[("White", "240")] == first


def test_two_options_may_swap_their_values() -> None:
    item = made(SHOE)
    first, second = item.options
    swapped = made(
        replace(SHOE, options=(OptionDraft(second.values, id=first.id), OptionDraft(first.values, id=second.id))), item
    )
    assert ids_of(swapped) == {second.values: first.id, first.values: second.id}


def test_new_option_does_not_take_the_id_of_one_that_was_renamed_away() -> None:
    item = made(SHOE)
    first = item.options[0]
    after = made(replace(SHOE, options=(OptionDraft(("White", "240"), id=first.id), OptionDraft(first.values))), item)
    assert ids_of(after)[("White", "240")] == first.id
    assert ids_of(after)[first.values] not in {option.id for option in item.options}


def test_option_left_out_stays_inactive_and_comes_back_with_its_id() -> None:
    item = made(SHOE)
    smaller = made(replace(SHOE, options=SHOE.options[:1]), item)
    assert [option.active for option in smaller.options] == [True, False]
    assert ids_of(made(SHOE, smaller)) == ids_of(item)


@pytest.mark.parametrize(
    "draft",
    [
        replace(SHOE, handle="Runner"),
        replace(SHOE, handle="run ner"),
        replace(SHOE, handle="../x"),
        replace(SHOE, title="  "),
        replace(SHOE, tags=(" ",)),
        replace(SHOE, option_names=("Color", "Color")),
        replace(SHOE, options=()),
        replace(SHOE, options=(OptionDraft(("Black",)),)),
        replace(SHOE, options=(OptionDraft(("Black", " ")),)),
        replace(SHOE, option_names=()),
        replace(SHOE, description="가" * 22_000),
    ],
)
def test_item_that_contradicts_itself_is_refused(draft: ItemDraft) -> None:
    with pytest.raises(InvalidItem):
        check(tidied(draft))


def test_equal_option_values_are_refused_also_when_spelled_apart() -> None:
    with pytest.raises(DuplicateOption):
        check(tidied(replace(SHOE, options=(OptionDraft(("Caf\u00e9", "1")), OptionDraft(("Cafe\u0301 ", "1"))))))


def test_option_id_named_twice_is_refused() -> None:
    one = ids.uuid7()
    with pytest.raises(DuplicateOption):
        check(tidied(replace(SHOE, options=(OptionDraft(("a", "1"), id=one), OptionDraft(("b", "1"), id=one)))))


def test_option_of_another_item_is_refused() -> None:
    item = made(SHOE)
    with pytest.raises(InvalidItem):
        made(replace(SHOE, options=(OptionDraft(("Black", "240"), id=ids.uuid7()),)), item)


def test_import_that_names_a_handle_twice_is_refused() -> None:
    with pytest.raises(DuplicateHandle):
        handles_are_distinct([SHOE, replace(SHOE, title="Other")])


def test_handles_may_be_korean() -> None:
    check(tidied(replace(SHOE, handle="러닝화-240")))
