"""A server that somebody else runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from solver.config import VllmConfig
from solver.engines.vllm import attached as module
from solver.engines.vllm.attached import Attached, server_url
from solver.errors import ConfigError, EngineError, ModelError
from tests.engines.vllm_hosts.conftest import Told
from tests.support.fake_vllm import InThread


@pytest.mark.parametrize(
    "given",
    ["http://h:8000", "http://h:8000/", " http://h:8000/v1", "http://h:8000/v1/"],
)
def test_a_url_may_end_in_v1(given: str) -> None:
    assert server_url(given) == "http://h:8000"


@pytest.mark.parametrize(
    "given",
    [
        *("localhost:8000", "h", "", "ftp://h:1", "http://", "http://h:port", "http://h:99999"),
        *("http://h:0", "http://h:1/v2", "http://h:1/v1/completions", "http://h:1/?a=b"),
        *("http://h:1/#x", "http://me:word@h:1", "http://[::1"),
    ],
)
def test_what_is_no_server_is_refused_in_one_line(given: str) -> None:
    with pytest.raises(ConfigError, match="is no server: give http://HOST:PORT") as caught:
        server_url(given)
    assert "\n" not in str(caught.value)


def attached(url: str, told: Told, **settings: float) -> Attached:
    return Attached(
        url,
        VllmConfig(**settings),  # type: ignore[arg-type]
        say=told.said.append,
        on_incident=told.incidents.append,
        progress_s=0.0,
    )


def closed(fake: InThread) -> str:
    """The address of a fake that has been closed."""
    fake.close()
    return fake.url


async def test_it_waits_for_a_server_that_comes_later_and_leaves_it_alone(
    in_thread: Callable[..., InThread], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POLL_S", 0.01)
    fake = in_thread()
    host = attached(fake.url, told)
    closed(fake)
    start = asyncio.create_task(host.start())
    while not told.said:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    fake.open()
    await start
    assert told.said[0] == f"waiting for a vLLM server at {fake.url}, 0 s"
    await host.aclose()
    await attached(fake.url, told).start()


async def test_a_server_that_never_comes_is_an_error_that_names_it(
    in_thread: Callable[..., InThread], told: Told
) -> None:
    url = closed(in_thread())
    with pytest.raises(ModelError, match=rf"no vLLM server answers at {url} \(waited 0.1 s\)"):
        await attached(url, told, start_limit_s=0.1).start()


async def test_a_lost_server_is_waited_for_and_given_up_if_it_never_helps(
    in_thread: Callable[..., InThread], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "back_off", lambda failures: 0.0)
    host = attached(in_thread().url, told, max_restarts=2)
    await host.start()
    await host.recover()
    await host.recover()
    host.reset_failures()
    await host.recover()
    await host.recover()
    with pytest.raises(EngineError, match="lost 3 times in a row without a token: given up"):
        await host.recover()


async def test_a_lost_server_that_never_comes_back_is_an_error_of_the_engine(
    in_thread: Callable[..., InThread], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "back_off", lambda failures: 0.0)
    url = closed(in_thread())
    with pytest.raises(EngineError, match="no vLLM server answers"):
        await attached(url, told, start_limit_s=0.1).recover()
    assert len(told.incidents) == 1
