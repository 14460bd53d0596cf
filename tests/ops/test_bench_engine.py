"""The parts of ``penstock bench engine``, and all of it at toy size: its figures are never looked at."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from config.settings import Settings
from ops.bench import conversation, engine, llms
from ops.bench.agents import OUT, Crowd, Ours, Played, cached_of
from ops.bench.boundary import Told
from ops.bench.boundary_program import Host
from ops.bench.decoding import Pauses
from ops.bench.door import Door
from ops.bench.figure import Effort
from ops.bench.partner import Partner
from ops.bench.peer import Peer
from ops.bench.subjects import Bench
from ops.bench.texts import Rows, Texts
from ops.complaint import Complaint

TOY = Effort(
    rounds=1, llm="pico", decoded=4, intruder=300, restored=(300,), jobs=2, agents=2, turns=2, candidates=1,
    conversation=3,
)  # fmt: skip


def test_texts_are_as_long_as_asked_and_differ_at_once() -> None:
    """No two texts begin alike, so that none is cached because of another."""
    texts = Texts()
    taken = [texts.take(tokens) for tokens in (32, 200, 200, 1_000)]
    assert [len(texts.tokens(text)) for text in taken] == [32, 200, 200, 1_000]
    assert len({text.partition(":")[0] for text in taken}) == 4


def test_rows_are_random_and_repeatable() -> None:
    """Rows differ from each other; the same seed gives the same ones."""
    one, other = Rows(), Rows()
    taken = [one.take(16) for _ in range(3)]
    assert len({tuple(row) for row in taken}) == 3
    assert taken == [other.take(16) for _ in range(3)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """The engine's program with the twin, which goes on until ``max_tokens``."""
    settings = {
        "data_dir": tmp_path,
        "default_llm": "twin",
        "llms": {"twin": {"path": "fake:endless=1"}},
        "engine": {"backend": "fake"},
    }
    made = Host(Settings.model_validate(settings))
    yield made
    made.close()


def row(tokens: list[int], max_tokens: int = 1, after: int = 0) -> dict[str, Any]:
    """What is asked of the program for one row."""
    return {"tokens": tokens, "max_tokens": max_tokens, "agent": "a", "after": after}


def test_every_token_has_its_instant(host: Host) -> None:
    """As many instants as tokens, rising, behind the submission; tokens that end no character too."""
    one, other = host.run([row([7] * 40, 12), row([8] * 40, 5)], None)
    assert [len(one.tokens), len(other.tokens)] == [12, 5]
    assert 0 <= one.submitted < one.tokens[0]
    assert one.tokens == sorted(one.tokens)
    assert one.ended >= one.tokens[-1]


def test_what_was_computed_is_told_as_cached(host: Host) -> None:
    """A second prompt with the same beginning tells how much of it was in the pool, and the figures do."""
    beginning = [number % 200 for number in range(512)]
    host.run([row([*beginning, 1, 2])], None)
    (told,) = host.run([row([*beginning, 3, 4])], None)
    assert told.cached == 512
    stats = host.stats()
    assert stats["reused_tokens"] == 512
    assert stats["pool_bytes"] >= 512 * stats["token_bytes"] > 0


def test_a_row_that_comes_later_and_ends_the_run(host: Host) -> None:
    """It is handed over when the first has so many tokens; when it has ended the first is cancelled."""
    first, later = host.run([row([5] * 8, 3_000), row([6] * 8, 1, after=10)], 1)
    assert first.tokens[9] <= later.submitted
    assert len(first.tokens) < 3_000
    assert first.ended > later.tokens[0]


def test_blocks_are_on_disk_when_they_are_saved(host: Host, tmp_path: Path) -> None:
    """After the answer to a save nothing is left to be written."""
    host.run([row([9] * 300)], None)
    assert host.answer({"save": "a"})["tokens"] >= 300
    assert any(file.is_file() for file in (tmp_path / "blocks").rglob("*"))


def test_a_row_that_fails_ends_the_measurement(host: Host) -> None:
    """A prompt that the engine refuses is no measurement: its reason is raised."""
    with pytest.raises(RuntimeError, match="context"):
        host.run([row([1] * 9_000)], None)


def test_the_longest_pause_beside_a_long_prompt() -> None:
    """It is held against the median of the pauses before; what comes after the prompt does not count."""
    decoder = Told(0.0, (1.0, 2.0, 3.0, 4.0, 9.0, 16.0, 18.0, 48.0), 48.0, 0)
    pauses = Pauses(decoder, Told(4.5, (17.0,), 17.0, 0))
    assert pauses.median_alone == 1.0
    assert pauses.longest_beside == 7.0
    assert (pauses.ratio, pauses.tokens_beside, pauses.seconds_beside) == (7.0, 3, 12.5)


class Echo:
    """A server whose answers name the turn; it keeps one byte of each."""

    def __init__(self, tokens: int = OUT) -> None:
        self.tokens = tokens
        self.seen: list[tuple[str, list[dict[str, str]]]] = []
        self._guard = threading.Lock()

    def door(self) -> Door:
        """A way that nobody goes."""
        return Door("http://127.0.0.1:1")

    def turn(self, _: Door, agent: str, messages: list[dict[str, str]]) -> dict[str, Any]:
        """An answer; of each turn one token was cached."""
        with self._guard:
            self.seen.append((agent, [*messages]))
        turns = len(messages) // 2
        return {
            "text": f"answer {turns}",
            "usage": {"completion_tokens": self.tokens, "cached_tokens": turns},
        }

    def cache_bytes(self) -> float:
        """Bytes so far."""
        return float(len(self.seen))


def test_a_crowd_talks_with_the_answers_it_got() -> None:
    """Each agent says its turns in order, on top of the answers; a round has one system message."""
    server, played = Echo(), Played()
    crowd = Crowd(agents=3, turns=2)
    crowd.play(server, played)
    crowd.play(server, played)
    by_agent: dict[str, list[list[dict[str, str]]]] = {}
    for agent, messages in server.seen:
        by_agent.setdefault(agent, []).append(messages)
    assert len(by_agent) == 6
    for first, second in by_agent.values():
        assert [one["role"] for one in second] == ["system", "user", "assistant", "user"]
        assert second[:2] == first
        assert second[2]["content"] == "answer 1"
    assert len({first[0]["content"] for first, _ in by_agent.values()}) == 2
    assert len({messages[-1]["content"] for _, messages in server.seen}) == 12


def test_a_crowd_counts_what_its_first_round_left_behind() -> None:
    """Bytes are those of the first round alone, cached tokens those of each."""
    played = Played()
    crowd, server = Crowd(agents=2, turns=2), Echo()
    crowd.play(server, played)
    crowd.play(server, played)
    assert played.cache_bytes == 4.0
    assert played.cached == [6, 6]
    assert len(played.seconds) == 2


def test_an_answer_that_ends_early_does_not_compare() -> None:
    """Both sides must generate the same number of tokens."""
    with pytest.raises(Complaint, match="do not compare"):
        Crowd(agents=1, turns=1).play(Echo(tokens=3), Played())


def test_cached_tokens_in_both_dialects() -> None:
    """Ours stands in the usage itself, OpenAI's in its details."""
    assert cached_of({"cached_tokens": 0}) == 0
    assert cached_of({"prompt_tokens_details": {"cached_tokens": 7}}) == 7


def test_the_peer_tells_its_bytes_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of the lines that it logs counts; without any there is no figure."""
    log = tmp_path / "log"
    monkeypatch.setattr(Peer, "chat", lambda *_: {})
    log.write_text("INFO - Prompt Cache: 1 sequences, 0.10 GB\nINFO - Prompt Cache: 33 sequences, 0.42 GB\n")
    assert Peer(tmp_path, log).cache_bytes() == 420_000_000
    log.write_text("")
    with pytest.raises(Complaint, match="does not say"):
        Peer(tmp_path, log).cache_bytes()


class Answering(BaseHTTPRequestHandler):
    """Echoes a body, and refuses the path /no."""

    def do_POST(self) -> None:
        """Send back what came, with the key."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(500 if self.path == "/no" else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"got": body, "key": self.headers["Authorization"]}).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


def test_a_door_goes_to_any_server() -> None:
    """A server that closes each connection is asked again; what is not a success is told."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with Door(f"http://127.0.0.1:{server.server_port}", "pk") as door:
            for number in range(2):
                assert door.post("/x", {"a": number}) == {"got": {"a": number}, "key": "Bearer pk"}
            with pytest.raises(Complaint, match="500"):
                door.post("/no", {})
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_program_that_ends_instead_of_answering() -> None:
    """The measurement ends with a word, and does not wait for ever."""
    with pytest.raises(Complaint, match="ended without an answer"), Partner("json.tool", "--no-such-option"):
        pass


def test_what_is_not_there_cannot_be_measured(tmp_path: Path) -> None:
    """Unknown parts and LLMs are told, with what there is."""
    with pytest.raises(Complaint, match="choose among hold"):
        next(engine.measure(Effort(parts=("nothing",)), tmp_path))
    with pytest.raises(Complaint, match="choose among pico"):
        next(engine.measure(Effort(llm="gpt"), tmp_path))


def test_a_cpu_measures_less_often_what_takes_minutes(tmp_path: Path) -> None:
    """Elsewhere there are as many rounds as were asked for; more than that there never are."""
    bench = Bench(Effort(rounds=5), tmp_path)
    for device, rounds in (("CPU", 3), ("CUDA", 5)):
        vars(bench)["device"] = device
        assert bench.rounds(3) == rounds
    bench.effort = replace(bench.effort, rounds=1)
    assert bench.rounds(3) == 1


def test_pico_with_other_numbers_and_a_longer_context(tmp_path: Path) -> None:
    """The copy's weights are of the type asked for, and it says what context it is for."""
    from safetensors.numpy import load_file

    folder = llms.endless_pico(tmp_path / "pico", "float32", 65_536)
    before, after = load_file(llms.PICO / "model.safetensors"), load_file(folder / "model.safetensors")
    assert {array.dtype.name for array in after.values()} == {"float32"}
    assert all((before[name] == array).all() for name, array in after.items())
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == 65_536


def test_the_larger_shapes() -> None:
    """They have the sizes that their names tell, but for a vocabulary of pico's."""
    sizes = {name: llms.parameters(shape) for name, shape in llms.SHAPES.items()}
    assert 15e6 < sizes["16m"] < 17e6
    assert 95e6 < sizes["101m"] < 105e6
    assert 0.9e9 < sizes["1b"] < 1.3e9
    assert 6.5e9 < sizes["8b"] < 8.5e9


@pytest.mark.slow
def test_what_can_be_reused() -> None:
    """The prompt before and its answer, up to where the next prompt goes on otherwise."""
    reusable = conversation.Reusable()
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One, two"}]
    assert reusable.ask(chat) == 0
    reusable.answered(" three")
    told = [*chat, {"role": "assistant", "content": " three"}, {"role": "user", "content": "And?"}]
    before = len(reusable._computed)
    assert reusable.ask(told) == before
    reusable.answered("four")
    other = [chat[0], {"role": "user", "content": "Something else"}]
    assert 0 < reusable.ask(other) < before


def test_common_beginnings() -> None:
    """Up to the first difference, or the end of the shorter."""
    assert conversation.common([1, 2, 3], [1, 2, 4]) == 2
    assert conversation.common([1, 2], [1, 2, 4]) == 2
    assert conversation.common([3], [1]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("part", ["hold", "first", "decode", "unique", "gap", "restore"])
def test_figures_at_the_engines_boundary_come(part: str, tmp_path: Path) -> None:
    """Each part gives figures greater than nothing, and says of what LLM."""
    found = list(engine.PARTS[part](Bench(TOY, tmp_path)))
    assert found
    assert all(figure.value > 0 and figure.details["llm"].startswith("pico") for figure in found)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["reuse", "jobs", "agents"])
def test_figures_through_the_service_come(part: str, tmp_path: Path) -> None:
    """The same through HTTP, beside ``mlx_lm.server``."""
    found = list(engine.PARTS[part](Bench(TOY, tmp_path)))
    assert found
    assert all(figure.value > 0 for figure in found)


def test_a_turn_without_an_answer() -> None:
    """A job that failed ends the measurement with its error."""
    ours = object.__new__(Ours)

    class Failing:
        """A door behind which every job has failed."""

        def post(self, *_: object) -> dict[str, Any]:
            """The job as it ended."""
            return {"finished_at": "now", "result": None, "state": "failed", "error": {"type": "row_error"}}

    with pytest.raises(Complaint, match="row_error"):
        ours.turn(cast(Door, Failing()), "a", [])
