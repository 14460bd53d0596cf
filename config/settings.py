"""The settings: one object, read once, every limit a number with a name.

The fields are declared here; where their values come from (command line,
environment, ``.env``, TOML) is decided in :mod:`config.sources`.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_data_path
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode


class Section(BaseModel):
    """A frozen group of settings that refuses names it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _parts(value: object) -> object:
    """The parts of a text between its commas; anything else as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Server(Section):
    """The HTTP door."""

    host: str = Field("127.0.0.1", description="Address to bind; others than loopback need allow_remote.")
    port: int = Field(8180, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    allow_remote: bool = Field(False, description="Permit binding an address other machines can reach.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("localhost", "127.0.0.1", "[::1]"),
        description="Host header names that are answered (DNS rebinding); commas between them in a variable.",
    )
    max_body_bytes: int = Field(33_554_432, ge=1024, description="Largest request body, in bytes.")
    threads: int = Field(16, ge=2, description="Threads that run database work of requests.")
    wait_max_seconds: float = Field(60, ge=0, description="Longest long-poll, in seconds.")
    page_max: int = Field(200, ge=1, description="Most rows a list answers at once.")

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def split_at_commas(cls, value: object) -> object:
        """Let an environment variable hold a list without JSON."""
        return _parts(value)

    @model_validator(mode="after")
    def stays_here_unless_allowed(self) -> Self:
        """Refuse an address that other machines can reach, unless that was asked for."""
        if not self.allow_remote and not is_loopback(self.host):
            raise ValueError(
                f"server.host is {self.host}, which other machines may reach: "
                "set server.allow_remote to true (or pass --allow-remote), or bind 127.0.0.1"
            )
        return self


class Database(Section):
    """Where rows are kept."""

    url: SecretStr | None = Field(
        None, description="SQLAlchemy URL; empty means SQLite in the data directory."
    )
    pool_size: int = Field(16, ge=1, description="Connections a process keeps open.")
    busy_timeout_ms: int = Field(10_000, ge=0, description="How long SQLite waits for its write lock.")


class Broker(Section):
    """How hints travel from the door to the workers."""

    kind: Literal["sql", "redis"] = Field("sql", description="Embedded SQL broker, or Redis.")
    redis_url: SecretStr | None = Field(None, description="redis:// URL, needed when kind is redis.")
    namespace: str = Field("penstock", description="Prefix of the keys in Redis.")
    poll_ms: int = Field(50, ge=5, description="Idle fetch interval of a consumer.")
    lease_seconds: float = Field(30, gt=0, description="How long a fetched hint may stay unacknowledged.")

    @model_validator(mode="after")
    def redis_has_an_address(self) -> Self:
        """Refuse Redis without the URL of one."""
        if self.kind == "redis" and self.redis_url is None:
            raise ValueError(
                "broker.kind is redis, but broker.redis_url is not set: "
                "set PENSTOCK_BROKER__REDIS_URL=redis://localhost:6379/0, or broker.kind to sql"
            )
        return self


class Live(Section):
    """Live events: tokens and changes of state as they happen."""

    kind: Literal["sql", "redis"] = Field("sql", description="Rows in the database, or Redis streams.")
    flush_ms: int = Field(200, ge=20, description="How often the worker writes new tokens.")
    poll_ms: int = Field(50, ge=10, description="How often a waiting request looks for changes.")
    keep_seconds: float = Field(3600, gt=0, description="How long token events of ended jobs are kept.")


class Queue(Section):
    """Order, attempts and limits of waiting jobs."""

    max_depth: int = Field(200_000, ge=1, description="Waiting jobs beyond which submissions get 429.")
    max_tenant_depth: int = Field(
        200_000, ge=1, description="The same for one tenant, unless a number of its own was set."
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Failures a job may have, unless it says.")
    backoff_seconds: float = Field(2, gt=0, description="First pause after a failure; doubles each time.")
    backoff_max_seconds: float = Field(600, gt=0, description="Longest pause between attempts.")
    timeout_seconds: float = Field(3600, gt=0, description="Longest attempt, unless the job says.")
    timeout_max_seconds: float = Field(
        604_800, gt=0, description="Longest attempt that a job may ask for, in seconds."
    )
    trial_jobs: int = Field(
        8, ge=1, description="Jobs tried together, without other suspects, after a worker was lost with them."
    )
    offset_interactive: int = Field(0, description="Rank offset of the class, in tokens.")
    offset_standard: int = Field(10_000_000, description="Rank offset of the class, in tokens.")
    offset_background: int = Field(1_000_000_000, description="Rank offset of the class, in tokens.")


class Bulk(Section):
    """Many jobs in one request."""

    max_jobs: int = Field(10_000, ge=1, description="Most jobs in one bulk.")
    chunk_jobs: int = Field(100, ge=1, description="Jobs stored in one transaction.")
    abandon_seconds: float = Field(600, gt=0, description="Age at which an unpublished bulk is removed.")


class Requests(Section):
    """Limits of one job's request."""

    max_messages: int = Field(2_000, ge=1, description="Most messages in a conversation.")
    default_max_tokens: int = Field(256, ge=1, description="Completion tokens, unless the job says.")
    max_metadata: int = Field(32, ge=0, description="Most metadata pairs of a job.")
    max_tags: int = Field(32, ge=0, description="Most tags of a job.")
    max_stop: int = Field(8, ge=0, description="Most stop strings of a job.")
    idempotency_hours: float = Field(48, gt=0, description="How long an Idempotency-Key is remembered.")


class Worker(Section):
    """The inference and the errands worker."""

    llms: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Aliases that an inference worker serves; empty means default_llm alone."
    )
    loaded: int = Field(
        1, ge=1, description="How many of its LLMs a worker keeps loaded at once; the others take turns."
    )
    share: bool = Field(
        False, description="`up` starts one worker for all aliases of serve, in place of one for each."
    )
    swap_wait_seconds: float = Field(
        30, ge=0, description="How long jobs of another LLM wait for the loaded one to run out of jobs."
    )
    swap_grace_seconds: float = Field(
        2, ge=0, description="Time to finish running jobs when another LLM is to be loaded."
    )
    unload_seconds: float = Field(
        0, ge=0, description="Idle time after which a worker unloads an LLM until its next job; 0 is never."
    )
    retry_load_seconds: float = Field(
        60, gt=0, description="Pause before a worker tries again to load an LLM that could not be loaded."
    )
    home_wait_ms: float = Field(
        2_000, ge=0, description="How long an agent's job waits for the worker that served the agent before."
    )
    heartbeat_ms: int = Field(1_000, ge=50, description="How often a worker raises its counter.")
    lease_seconds: float = Field(15, gt=0, description="Silence after which a worker counts as lost.")
    control_ms: int = Field(100, ge=10, le=250, description="How often a worker looks for cancels.")
    look_seconds: float = Field(
        5, ge=0, description="How often a worker looks for jobs without a hint; 0 is never."
    )
    stall_seconds: float = Field(
        300, ge=0, description="Longest engine step, after which the worker ends itself; 0 is no limit."
    )
    sweep_ms: int = Field(1_000, ge=50, description="How often the errands worker sweeps.")
    sweep: bool = Field(True, description="Run the sweeper (off only in tests of hints).")
    rehint_seconds: float = Field(10, gt=0, description="Age at which a waiting job is hinted again.")
    grace_seconds: float = Field(20, ge=0, description="Time to finish running jobs when stopped.")

    @field_validator("llms", mode="before")
    @classmethod
    def split_at_commas(cls, value: object) -> object:
        """Let an environment variable hold a list without JSON."""
        return _parts(value)


class Engine(Section):
    """The decoder and its batch."""

    backend: Literal["mlx", "fake"] = Field("mlx", description="MLX, or the deterministic twin for tests.")
    window_ms: float = Field(10, ge=0, description="How long arrivals are gathered before admission.")
    max_rows: int = Field(64, ge=1, description="Sequences that decode together at most.")
    max_batch_bytes: int = Field(
        4_294_967_296, ge=1, description="Cache bytes the live batch may take (rows x longest row)."
    )
    max_row_bytes: int = Field(
        0, ge=0, description="Cache bytes that one job may take; 0 is as many as the batch."
    )
    prefill_rows: int = Field(8, ge=1, description="Prompts computed together at most.")
    prefill_tokens: int = Field(512, ge=16, description="Tokens of a prompt computed in one step at most.")
    prefill_stall: float = Field(
        4, gt=0, description="Longest piece of a prompt beside rows that decode, in times of a decoding step."
    )
    pool_bytes: int = Field(
        2_147_483_648, ge=0, description="Key/value blocks kept for reuse, in bytes; 0 keeps none."
    )
    pool_bits: Annotated[Literal[0, 4, 8], BeforeValidator(int)] = Field(
        0, description="Bits a number of kept blocks is quantized to; 0 keeps them as they are."
    )
    disk_bytes: int = Field(
        8_589_934_592, ge=0, description="Blocks kept in <data-dir>/blocks over restarts; 0 keeps none."
    )
    save_seconds: float = Field(
        5, ge=0, description="Idle time after which an agent's blocks are written to disk."
    )
    threads: int = Field(0, ge=0, description="BLAS threads on CPU; 0 leaves the library's choice.")


class Llm(Section):
    """One LLM that jobs may name by its alias."""

    path: str = Field(description="Directory, hub id, or builtin:pico.")
    adapter: str = Field("", description="Directory of a LoRA adapter to load on top; empty is none.")


class Retention(Section):
    """How long ended jobs are kept, by the state they ended in; 0 keeps them for ever."""

    succeeded_days: float = Field(0, ge=0, description="Age at which succeeded jobs are deleted.")
    failed_days: float = Field(0, ge=0, description="Age at which failed jobs are deleted.")
    cancelled_days: float = Field(0, ge=0, description="Age at which cancelled jobs are deleted.")
    expired_days: float = Field(0, ge=0, description="Age at which expired jobs are deleted.")
    archive: bool = Field(
        False, description="Write jobs to <data-dir>/archive/*.jsonl.gz before they are deleted."
    )
    lock_ms: float = Field(
        50, ge=5, le=1_000, description="Longest time that one deletion may hold the write lock."
    )


class Settings(Section):
    """Everything that can be set. Build it with :func:`config.sources.load`."""

    environment: str = Field(
        "default", pattern="^[a-z0-9-]+$", description="Picks config/{environment}.toml."
    )
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("penstock", appauthor=False),
        description="Database, key, logs and caches live here; empty means the platform's usual place.",
    )
    default_llm: str = Field("pico", description="Alias used when a job names no LLM.")
    serve: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Aliases that `up` starts a worker for; empty means default_llm alone."
    )
    currency: str = Field("EUR", min_length=3, max_length=3, description="Currency of all prices.")
    server: Server = Field(default_factory=Server)
    database: Database = Field(default_factory=Database)
    broker: Broker = Field(default_factory=Broker)
    live: Live = Field(default_factory=Live)
    queue: Queue = Field(default_factory=Queue)
    bulk: Bulk = Field(default_factory=Bulk)
    requests: Requests = Field(default_factory=Requests)
    worker: Worker = Field(default_factory=Worker)
    engine: Engine = Field(default_factory=Engine)
    retention: Retention = Field(default_factory=Retention)
    llms: dict[str, Llm] = Field(default_factory=lambda: {"pico": Llm(path="builtin:pico")})

    @field_validator("serve", mode="before")
    @classmethod
    def split_at_commas(cls, value: object) -> object:
        """Let an environment variable hold a list without JSON."""
        return _parts(value)

    @field_validator("data_dir")
    @classmethod
    def resolve_home(cls, value: Path) -> Path:
        """Make the folder absolute, so that every process of the service finds the same one."""
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def parts_fit_together(self) -> Self:
        """Refuse settings of different sections that contradict each other."""
        if self.live.kind == "redis" and self.broker.redis_url is None:
            raise ValueError(
                "live.kind is redis, but broker.redis_url is not set: "
                "set PENSTOCK_BROKER__REDIS_URL=redis://localhost:6379/0, or live.kind to sql"
            )
        if self.default_llm not in self.llms:
            raise ValueError(
                f"default_llm is {self.default_llm}, which llms does not name: "
                f"add [llms.{self.default_llm}] with its path, or choose one of {', '.join(self.llms)}"
            )
        for name, aliases in (("worker.llms", self.worker.llms), ("serve", self.serve)):
            for alias in aliases:
                if alias not in self.llms:
                    known = ", ".join(self.llms)
                    raise ValueError(f"{name} is {alias}, which llms does not name; there is: {known}")
        if self.serve and self.default_llm not in self.serve:
            served = ", ".join(self.serve)
            raise ValueError(
                f"default_llm is {self.default_llm}, which is not among serve ({served}), so no worker would "
                f"run the jobs that name no LLM: add it to serve, or choose one of {served}"
            )
        return self

    @property
    def served_llms(self) -> tuple[str, ...]:
        """The aliases that an inference worker of these settings serves, each once."""
        return tuple(dict.fromkeys(self.worker.llms)) or (self.default_llm,)

    @property
    def up_serves(self) -> tuple[str, ...]:
        """The aliases for which `up` starts workers, each once."""
        return tuple(dict.fromkeys(self.serve)) or (self.default_llm,)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL in force: the one set, or SQLite in ``data_dir``."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'penstock.db'}"
