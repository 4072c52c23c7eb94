"""Proxies that the environment names: the Hub's client goes through them, and says which fails."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from inctrl_core import ModelError, load_detector
from inctrl_core.checkpoints.hub import fetch_file
from inctrl_core.checkpoints.proxies import describe_proxy, hidden_proxies, unusable_proxy
from tests.checkpoints.test_hub import fused, hub, published  # noqa: F401, fixtures.
from tests.support.forward_proxy import running_forward_proxy

DEAD = "http://127.0.0.1:9"
KINDS = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without proxies, and a client that reads it anew."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    close_session()
    yield
    close_session()


def refusal() -> str:
    with pytest.raises(ModelError) as caught:
        fetch_file("someone/golden", "config.json")
    said = str(caught.value)
    assert "\n" not in said and said.endswith(".")
    return said


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_downloads_go_through_the_proxy(
    published,  # noqa: F811
    hub,  # noqa: F811
    golden_detector,
    monkeypatch,
    name,
):
    with running_forward_proxy() as proxy:
        monkeypatch.setenv(name, proxy.url)
        assert fused(load_detector("someone/golden", "cpu")) == fused(golden_detector)
    assert any("/resolve/main/config.json" in url for url in proxy.asked)
    assert any("/large/" in url for url in proxy.asked)


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_dead_proxy_is_named(published, monkeypatch, name):  # noqa: F811
    monkeypatch.setenv(name, DEAD)
    assert f"through the proxy {DEAD}, which {name} names; correct or unset it" in refusal()


@pytest.mark.parametrize("status", [403, 407])
@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_a_refusing_proxy_is_named(published, monkeypatch, name, status):  # noqa: F811
    with running_forward_proxy(status) as proxy:
        monkeypatch.setenv(name, proxy.url)
        said = refusal()
    assert f"the proxy {proxy.url}, which {name} names, refuses ({status})" in said
    assert "token" not in said


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_a_tunnel_is_named(published, monkeypatch, status):  # noqa: F811
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    template = "https://hub.example/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with running_forward_proxy(status) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//someone:secret@"))
        said = refusal()
    assert proxy.asked and set(proxy.asked) == {"hub.example:443"}
    assert f"{proxy.url}, which https_proxy names, refuses ({status} " in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("socks5://127.0.0.1:9", "needs the package socksio"),
        ("socks5h://127.0.0.1:9", "needs the package socksio"),
        ("socks4://127.0.0.1:9", "not a proxy's address"),
        ("socks://127.0.0.1:9", "not a proxy's address"),
        ("ftp://127.0.0.1:9", "not a proxy's address"),
        ("http://host:port", "not a proxy's address"),
        ("http://[::1", "not a proxy's address"),
        ("::::", "not a proxy's address"),
        ("http://\x01", "not a proxy's address"),
    ],
)
@pytest.mark.parametrize("name", KINDS)
def test_an_unusable_proxy_is_named(published, monkeypatch, name, value, says):  # noqa: F811
    if "socksio" in says and find_spec("socksio"):
        pytest.skip("SOCKS support is installed")
    monkeypatch.setenv(name, value)
    said = refusal()
    assert says in said and f"{name} names the proxy" in said
    with hidden_proxies():
        assert unusable_proxy() is None
    monkeypatch.setenv("no_proxy", "*")
    assert fetch_file("someone/golden", "config.json").is_file()


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:9", "socks4://h:1", "::::", DEAD])
def test_what_is_in_the_cache_needs_no_proxy(
    published,  # noqa: F811
    monkeypatch,
    value,
):
    path = fetch_file("someone/golden", "config.json")
    close_session()
    monkeypatch.setenv("all_proxy", value)
    assert fetch_file("someone/golden", "config.json") == path


def test_a_refusing_proxy_leaves_the_cache_in_use(published, monkeypatch):  # noqa: F811
    path = fetch_file("someone/golden", "config.json")
    close_session()
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    template = "https://hub.example/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with running_forward_proxy(403) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        assert fetch_file("someone/golden", "config.json") == path
    assert proxy.asked


def test_lower_case_wins_and_exceptions_count(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://upper:1")
    assert "http://upper:1, which HTTPS_PROXY" in describe_proxy("https://hub.example/a")
    monkeypatch.setenv("https_proxy", "lower:1")
    assert "http://lower:1, which https_proxy" in describe_proxy("https://hub.example/a")
    assert describe_proxy("http://hub.example/a") is None
    monkeypatch.setenv("no_proxy", "localhost,.example")
    assert describe_proxy("https://hub.example/a") is None
