"""The report over HTTP: this machine only, read-only, and as new as the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from solver.errors import InputError
from solver.report.serve import ReportServer
from tests.report.builders import RunBuilder, three_problems


@pytest.fixture
def run(tmp_path: Path) -> RunBuilder:
    """A run of three problems whose last one is not there yet."""
    run = three_problems(tmp_path / "run")
    whole = run.events
    run.events = [event for event in whole if getattr(event, "problem_id", "") != "square"]
    run.write(ended=False)
    return run


@pytest.fixture
def server(run: RunBuilder) -> Iterator[ReportServer]:
    with ReportServer([run.folder]) as server:
        yield server


def ask(
    server: ReportServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


def test_the_page_and_its_data(server: ReportServer) -> None:
    response, body = ask(server, "/")
    assert response.status == 200 and body.startswith("<!doctype html>")
    assert response.getheader("Cache-Control") == "no-store"
    assert "connect-src &#39;self&#39;" in body
    response, body = ask(server, "/data.json")
    assert response.getheader("Content-Type", "").startswith("application/json")
    assert json.loads(body)["runs"][0]["state"] == "under way"


def test_what_came_before_the_first_reader_is_there(server: ReportServer, run: RunBuilder) -> None:
    run.events = three_problems(run.folder).events
    run.flush()
    shown = json.loads(ask(server, "/data.json")[1])
    assert shown["problems"][2]["r"][0]["a"] == "9"


def test_it_grows_with_the_journal(server: ReportServer, run: RunBuilder) -> None:
    first = json.loads(ask(server, "/data.json")[1])
    assert first["problems"][2]["r"] == [None]
    known = f"/data.json?known={first['stamp']}"
    assert ask(server, known)[0].status == 204
    run.events = three_problems(run.folder).events
    run.flush()
    server.live.ask_again_at(0.0)
    response, body = ask(server, known)
    assert response.status == 200
    assert json.loads(body)["problems"][2]["r"][0]["a"] == "9"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "evil.example:80", ""])
def test_other_names_get_nothing(server: ReportServer, host: str) -> None:
    response, body = ask(server, "/data.json", host=host or "x")
    assert response.status == 403 and "problems" not in body


def test_localhost_is_a_name_too(server: ReportServer) -> None:
    host = f"localhost:{server.server_address[1]}"
    assert ask(server, "/", host=host)[0].status == 200


@pytest.mark.parametrize("path", ["/journal.jsonl", "/../config.json", "/x", "/data.json/"])
def test_nothing_else_is_served(server: ReportServer, path: str) -> None:
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_written(server: ReportServer, method: str) -> None:
    assert ask(server, "/", method)[0].status == 501


def test_a_journal_that_goes_away_is_said(server: ReportServer, run: RunBuilder) -> None:
    ask(server, "/")
    (run.folder / "journal.jsonl").unlink()
    server.live.ask_again_at(0.0)
    response, body = ask(server, "/")
    assert response.status == 503 and "cannot read" in body


def test_a_port_that_is_taken(server: ReportServer, run: RunBuilder) -> None:
    with pytest.raises(InputError, match="port"):
        ReportServer([run.folder], server.server_address[1])
