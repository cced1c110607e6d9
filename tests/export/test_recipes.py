import pytest

from minialbert_tf.errors import InputError
from minialbert_tf.export.recipes import RECIPES, find_recipe


def test_names():
    assert list(RECIPES) == ["none", "fp16", "int8", "int4", "int8-static", "int16x8"]
    assert all(find_recipe(name) is recipe and recipe.name == name for name, recipe in RECIPES.items())
    assert find_recipe("float32") is RECIPES["none"]
    with pytest.raises(InputError, match=r"quantization must be one of none, fp16, .*Received: 'int3'"):
        find_recipe("int3")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_each_says_what_it_means_and_may_lose(recipe):
    assert recipe.summary and "\n" not in recipe.summary
    assert 0 < recipe.min_agreement < 1 and recipe.max_f1_drop > 0
    assert recipe.is_integer == recipe.name.startswith("int")


def test_parts_have_bits_of_their_own():
    assert [RECIPES["int4"].bits_of(name) for name in ("recursion_0/block/query", "recursion_0/adapter/up")] == [4, 8]
    assert [RECIPES["int4"].bits_of(name) for name in ("word_embeddings", "word_scales", "classifier")] == [4, 8, 8]
