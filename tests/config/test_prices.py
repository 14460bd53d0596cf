"""Prices: exact decimals, a default for LLMs that are not named, and plain refusals."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.prices import Price, Prices, load_prices
from config.sources import ConfigurationError

LIST = '[default]\nprompt = "1"\n[llms.big]\nprompt = "3"\ncached = 0.3\ncompletion = "15"\n'


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    """A small price list, read from a file."""
    file = tmp_path / "prices.toml"
    file.write_text(LIST)
    return load_prices(file)


def test_cached_tokens_have_their_own_price(prices: Prices) -> None:
    """Of the whole prompt, the cached part is charged at its price and the rest as computed."""
    costs = prices.cost("big", prompt_tokens=1_000_000, cached_tokens=400_000, completion_tokens=1_000)
    assert (costs.prompt, costs.cached, costs.completion) == (
        Decimal("1.8"),
        Decimal("0.12"),
        Decimal("0.015"),
    )
    assert costs.total == Decimal("1.935")


def test_llms_that_are_not_named_have_the_default_price(prices: Prices) -> None:
    """An LLM without a table is charged by ``[default]``, kinds that are left out cost nothing."""
    costs = prices.cost("small", prompt_tokens=10, cached_tokens=5, completion_tokens=7)
    assert (costs.prompt, costs.cached, costs.completion) == (Decimal("0.000005"), Decimal(0), Decimal(0))


def test_floats_in_the_file_stay_decimal(prices: Prices) -> None:
    """A bare number in the file is read as the decimal that is written there."""
    assert prices.of("big").cached == Decimal("0.3")


@given(
    price=st.decimals(0, 1_000_000, places=6),
    prompt=st.integers(0, 10**7),
    share=st.fractions(0, 1),
    completion=st.integers(0, 10**7),
)
def test_costs_are_exact_to_the_stored_unit(
    price: Decimal, prompt: int, share: float, completion: int
) -> None:
    """Every cost is a whole number of 1e-12, the unit that is stored, and the total is the sum."""
    prices = Prices(default=Price(prompt=price, cached=price, completion=price))
    costs = prices.cost("x", prompt, int(prompt * share), completion)
    for part in (costs.prompt, costs.cached, costs.completion):
        assert part == part.quantize(Decimal(1).scaleb(-12))
    assert costs.total == price * (prompt + completion) / 1_000_000


@pytest.mark.parametrize(("prompt", "cached", "completion"), [(1, 2, 0), (1, -1, 0), (0, 0, -1)])
def test_impossible_counts_are_refused(prices: Prices, prompt: int, cached: int, completion: int) -> None:
    """More cached than prompt tokens, or fewer than none, is a mistake of ours and raises."""
    with pytest.raises(ValueError, match="cannot be charged"):
        prices.cost("big", prompt, cached, completion)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[default]\nprompt = "-1"\n', "default.prompt"),
        ('[default]\nprompt = "0.0000001"\n', "default.prompt"),
        ('[default]\nprompt = "NaN"\n', "default.prompt"),
        ('[llms.big]\npromt = "1"\n', "llms.big.promt"),  # codespell:ignore promt
        ("[llms.big\n", "not TOML"),
    ],
)
def test_a_wrong_price_list_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """What is not a price, or not known, is told with its place."""
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        load_prices(file)


def test_a_missing_price_list_is_refused(tmp_path: Path) -> None:
    """A price list that is not there is named: jobs are never free by accident."""
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        load_prices(tmp_path / "none.toml")


def test_the_shipped_list_prices_the_built_in_llm() -> None:
    """The demo shows a bill: each kind of pico's tokens costs something."""
    price = load_prices().of("pico")
    assert min(price.prompt, price.cached, price.completion) > 0
