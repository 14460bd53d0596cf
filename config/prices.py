"""What tokens cost: prices for each LLM and kind of token, in decimals, never floats."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.sources import ConfigurationError

_MILLION = Decimal(1_000_000)
_SHIPPED = Path(__file__).with_name("prices.toml")

# Six decimals a million tokens: one token's price is then exact in the 1e-12 that models store.
Amount = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Table):
    """Money for a million tokens of each kind, in the currency of the settings."""

    prompt: Amount = Decimal(0)
    cached: Amount = Decimal(0)
    completion: Amount = Decimal(0)


@dataclass(frozen=True)
class Costs:
    """What one attempt costs, by kind of token and in all."""

    prompt: Decimal
    cached: Decimal
    completion: Decimal

    @property
    def total(self) -> Decimal:
        """The sum of the three, exact."""
        return self.prompt + self.cached + self.completion


class Prices(_Table):
    """The prices of all LLMs, by alias; ``default`` serves those that are not named."""

    default: Price = Price()
    llms: dict[str, Price] = Field(default_factory=dict)

    def of(self, llm: str) -> Price:
        """The price table in force for an LLM's alias."""
        return self.llms.get(llm, self.default)

    def cost(self, llm: str, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> Costs:
        """The cost of one attempt.

        ``prompt_tokens`` is the whole prompt, as in a job's ``usage``; the
        ``cached_tokens`` among them are charged at their own price.
        """
        if not 0 <= cached_tokens <= prompt_tokens or completion_tokens < 0:
            raise ValueError(f"{cached_tokens} cached of {prompt_tokens} prompt tokens cannot be charged")
        price = self.of(llm)
        return Costs(
            prompt=price.prompt * (prompt_tokens - cached_tokens) / _MILLION,
            cached=price.cached * cached_tokens / _MILLION,
            completion=price.completion * completion_tokens / _MILLION,
        )


def load_prices(path: Path | None = None) -> Prices:
    """Read the price list, ``config/prices.toml`` unless another is named.

    Raises ConfigurationError when it is missing, is not TOML or holds what is not a price.
    """
    file = path or _SHIPPED
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
        return Prices.model_validate(tables)
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no price list {file}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file.name} is not TOML: {error}") from error
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, e['loc']))} ({file.name}): {e['msg']}" for e in error.errors())
        raise ConfigurationError("\n".join(wrong)) from error
