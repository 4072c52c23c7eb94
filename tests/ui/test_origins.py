"""Who may ask the page: its own visitors, programs, and hosts that the operator allows."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from inctrl_core.ui.serving.origins import VARIABLE, OriginCheck
from tests.ui.test_serving import served

PATIENCE = 60


@pytest.fixture(scope="module")
def local() -> Iterator[str]:
    """A page that listens on 127.0.0.1; yields its host and port."""
    with served() as page:
        yield f"127.0.0.1:{page.server_port}"


@pytest.fixture(scope="module")
def open_page() -> Iterator[str]:
    """A page that listens on all addresses."""
    with served(server_name="0.0.0.0") as page:
        yield f"127.0.0.1:{page.server_port}"


def upload(place: str, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    address, files = f"http://{place}/gradio_api/upload", {"files": ("a.txt", b"x")}
    return httpx.post(address, files=files, headers=sent, trust_env=False, timeout=PATIENCE)


def preflight(place: str, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"access-control-request-method": "POST", "access-control-request-headers": "x-a"}
    address = f"http://{place}/gradio_api/upload"
    return httpx.options(address, headers=sent, trust_env=False, timeout=PATIENCE)


class TestLocalPage:
    @pytest.mark.parametrize(
        "origin",
        [
            "http://evil.example",
            "https://evil.example",
            "null",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1:1",
            "http://localhost@evil.example",
            "file://",
            "chrome-extension://abc",
            "http://[",
            "http://127.0.0.1:99999",
            "x" * 5000,
        ],
    )
    def test_a_foreign_page_may_not_upload(self, local, origin):
        answer = upload(local, origin=origin)
        assert answer.status_code == 403 and VARIABLE in answer.json()["detail"]
        assert "access-control-allow-origin" not in answer.headers and len(answer.text) < 400
        asked = preflight(local, origin=origin)
        assert asked.status_code == 403 and "access-control-allow-origin" not in asked.headers

    @pytest.mark.parametrize("path", ["", "config", "gradio_api/info", "gradio_api/app_id"])
    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:7860", "203.0.113.7", "127.0.0.1.nip.io", "[", "a b"]
    )
    def test_a_foreign_name_is_not_answered(self, local, host, path):
        for origin in ({}, {"origin": f"http://{host}"}):
            sent = {"host": host, "x-forwarded-host": host} | origin
            address = f"http://{local}/{path}"
            answer = httpx.get(address, headers=sent, trust_env=False, timeout=PATIENCE)
            assert answer.status_code == 403 and VARIABLE in answer.json()["detail"]
            assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.0.0.2"])
    def test_its_own_visitors_may(self, local, host):
        port = local.partition(":")[2]
        assert upload(local, host=f"{host}:{port}", origin=f"http://{host}:{port}").is_success
        # By a tunnel with a port of its own.
        assert upload(local, host=f"{host}:9000", origin=f"http://{host}:9000").is_success

    @pytest.mark.parametrize("site", ["none", "same-origin", "cross-site"])
    def test_a_name_behind_tls_is_a_proxys(self, local, site):
        sent = {"host": "tools.example", "sec-fetch-site": site}
        answer = httpx.get(f"http://{local}/", headers=sent, trust_env=False, timeout=PATIENCE)
        assert answer.is_success
        told = {"host": "tools.example", "sec_fetch_site": site}
        assert upload(local, **told, origin="https://evil.example").is_success is (
            site == "same-origin"
        )

    def test_programs_send_no_origin(self, local):
        assert upload(local).is_success
        assert upload(local, user_agent="curl/8", accept="*/*").is_success

    def test_a_proxy_may_have_another_name(self, local):
        public = "tools.example"
        forwarded = {"origin": f"https://{public}", "x_forwarded_host": public}
        assert upload(local, **forwarded).is_success
        assert upload(local, **forwarded, x_forwarded_proto="https").is_success
        # One that says nothing, before a browser that does; as all do where there is TLS.
        told = {"origin": f"https://{public}", "sec_fetch_site": "same-origin"}
        assert upload(local, **told).is_success
        for site in ("cross-site", "same-site", "none"):
            assert upload(local, **(told | {"sec_fetch_site": site})).status_code == 403


class TestOpenPage:
    def test_it_may_have_any_name(self, open_page):
        for name in ("inctrl.example", "10.0.0.7:80", socket.gethostname()):
            assert upload(open_page, host=name, origin=f"http://{name}").is_success
            assert upload(open_page, host=name).is_success

    @pytest.mark.parametrize("host", ["127.0.0.1", "inctrl.example"])
    def test_a_foreign_page_may_not_upload(self, open_page, host):
        answer = upload(open_page, host=host, origin="http://evil.example")
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


class TestAllowed:
    def test_what_the_operator_names(self, monkeypatch):
        monkeypatch.setenv(VARIABLE, "tools.example, *.corp.example,https://other.example:8443")
        with served() as page:
            place = f"127.0.0.1:{page.server_port}"
            for name in ("tools.example", "a.corp.example", "other.example"):
                for host in (place, name):
                    answer = upload(place, host=host, origin=f"https://{name}")
                    assert answer.is_success
                    # Its scripts may read the answer.
                    assert answer.headers["access-control-allow-origin"] == f"https://{name}"
                asked = preflight(place, origin=f"https://{name}")
                assert asked.headers["access-control-allow-origin"] == f"https://{name}"
                assert asked.is_success
            for name in ("evil.example", "corp.example.evil.example", "xtools.example"):
                assert upload(place, origin=f"https://{name}").status_code == 403
                assert upload(place, host=name).status_code == 403

    def test_a_list_closes_an_open_page(self, monkeypatch):
        monkeypatch.setenv(VARIABLE, "tools.example")
        with served(server_name="0.0.0.0") as page:
            place = f"127.0.0.1:{page.server_port}"
            assert upload(place, host="evil.example").status_code == 403
            for host in ("tools.example", "10.0.0.7", "localhost"):  # Health checks use addresses.
                assert upload(place, host=host).is_success

    def test_everyone(self, monkeypatch):
        monkeypatch.setenv(VARIABLE, "*")
        with served() as page:
            place = f"127.0.0.1:{page.server_port}"
            assert upload(place, host="a.example", origin="http://b.example").is_success

    def test_on_spaces(self, monkeypatch):
        monkeypatch.setenv("SPACE_ID", "someone/inctrl")
        monkeypatch.setenv("SPACE_HOST", "someone-inctrl.hf.space")
        check = OriginCheck(None, ["0.0.0.0"], True)
        for name in ("someone-inctrl.hf.space", "huggingface.co", "someone-other.hf.space"):
            assert check._is_allowed(name)
        assert not check._is_allowed("evil.example")

    def test_behind_a_proxy_that_passes_its_name_on(self, monkeypatch):
        monkeypatch.setenv("GRADIO_ROOT_PATH", "/tools/inctrl")
        with served() as page:
            place = f"127.0.0.1:{page.server_port}"
            assert upload(place, host="tools.example", origin="http://tools.example").is_success
            assert upload(place, host="tools.example").is_success
            assert upload(place, origin="http://evil.example").status_code == 403

    def test_an_address_as_root_path(self, monkeypatch):
        monkeypatch.setenv("GRADIO_ROOT_PATH", "https://tools.example/inctrl")
        with served() as page:
            place = f"127.0.0.1:{page.server_port}"
            assert upload(place, host="tools.example", origin="https://tools.example").is_success
            assert upload(place, origin="https://tools.example").is_success

    def test_a_public_link(self):
        with served() as page:
            place = f"127.0.0.1:{page.server_port}"
            assert upload(place, host="abc.gradio.live").status_code == 403
            page.share_url = "https://abc.gradio.live"
            public = {"host": "abc.gradio.live", "origin": "https://abc.gradio.live"}
            assert upload(place, **public).is_success
