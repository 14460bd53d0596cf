"""Words as the search knows them."""

from __future__ import annotations

import pytest

from models import words
from models.requests import CompletionRequest, Message, TextPart
from models.words import Terms, code, words_of


def request(*texts: str) -> str:
    """The JSON of a conversation in which the user says these texts, one after the other."""
    said = tuple(Message(role="user", content=(TextPart(text=text),)) for text in texts)
    return CompletionRequest(messages=said).model_dump_json()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("GET /items/3?a_b=1.5", ["get", "items", "3", "a_b", "1", "5"]),
        ("Straße", ["strasse"]),
        ("e\u0301te\u0301 été", ["été", "été"]),
        ("\uff26\uff35\uff2c\uff2c \ufb01t", ["full", "fit"]),
        ("東京タワーabc行く", ["東", "京", "タ", "ワ", "ー", "abc", "行", "く"]),
        ("안녕 세계 привет", ["안녕", "세계", "привет"]),
        ("\"'&|!:*()", []),
        ("x" * 99, ["x" * words.LONGEST]),
    ],
)
def test_words_are_folded_runs(text: str, expected: list[str]) -> None:
    """Case and forms of letters make no difference; characters of which each is a word stand alone."""
    assert list(words.words(text)) == expected


def test_a_job_has_the_words_of_its_error_and_what_was_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each word is kept once, those of the error first, then from the last message back to the first."""
    asked = request("old news", "new news")
    assert words_of(asked, "It broke") == ["it", "broke", "new", "news", "old"]
    monkeypatch.setattr(words, "MOST_WORDS", 3)
    assert words_of(asked, "It broke") == ["it", "broke", "new"]


def test_a_long_text_is_read_to_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind so many characters of all texts together no words are looked for."""
    monkeypatch.setattr(words, "MOST_CHARACTERS", 12)
    assert words_of(request("never", "one two six", "ten"), None) == ["ten", "one", "two", "s"]


@pytest.mark.parametrize(
    ("text", "whole", "start"),
    [
        ("Big Moo", ("big",), "moo"),
        ("big moo ", ("big", "moo"), None),
        ("100%", ("100",), None),
        ("big big moo", ("big",), "moo"),
        ("moo", (), "moo"),
        ("moo n", ("moo", "n"), None),
        ("東京", ("東", "京"), None),
        ("été e\u0301te\u0301", ("été",), "été"),
    ],
)
def test_the_last_word_may_go_on(text: str, whole: tuple[str, ...], start: str | None) -> None:
    """A word that ends the text is the beginning of one; with a sign or a space behind it, it is whole."""
    assert Terms.of(text) == Terms(whole, start)


def test_a_text_without_words_is_refused() -> None:
    """Signs alone find nothing, and that is said."""
    with pytest.raises(ValueError, match="no letter"):
        Terms.of("% _".replace("_", "-"))


@pytest.mark.parametrize(
    ("text", "there"),
    [("moon fu", True), ("full moon ", True), ("moon f", False), ("moo full ", False), ("sun moon", False)],
)
def test_all_words_must_be_there(text: str, there: bool) -> None:
    """Whole words count as they are, the last by its beginning, in any order."""
    assert Terms.of(text).match(["the", "moon", "was", "full"]) is there


def test_codes_have_one_length_and_no_sign() -> None:
    """Whatever a tenant is called, its code is a few letters and digits, and where a word begins is known."""
    codes = {code(name) for name in ("default", "b", "ein Mandant", "東京")}
    assert len(codes) == 4
    assert all(len(each) == words.CODE_LENGTH and each.isalnum() and each.islower() for each in codes)
