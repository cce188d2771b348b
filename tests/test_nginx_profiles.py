"""The shipped nginx files, on a real nginx: who gets in, and what reaches the server behind."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pytest
import requests
import trustme
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.http11 import Request, Response
from websockets.sync.client import connect

from tests.listeners import free_port
from tests.nginx_server import echoing, find_nginx, listening, plain, running_nginx

SPOOFED = {
    "X-Forwarded-User": "root",
    "X-Forwarded-Email": "root@example.com",
    "X-Forwarded-Groups": "operators",
    "X-Forwarded-Preferred-Username": "root",
    "X-Auth-Request-User": "root",
    "X_Forwarded_User": "root",
    "Remote-User": "root",
    "X-Forwarded-For": "10.0.0.1",
}


def hashed(password: str) -> str:
    """As a password file holds it, by the command that the shipped file tells."""
    done = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=password, capture_output=True, text=True
    )
    return done.stdout.strip()


@dataclass(frozen=True)
class Front:
    """The two doors, and an authority that signed their certificate."""

    operators: str
    readers: str
    bundle: Path

    def get(self, url: str, **options: object) -> requests.Response:
        return requests.get(url, verify=str(self.bundle), allow_redirects=False, **options)

    def reached(self, url: str, **options: object) -> dict[str, str]:
        """The headers that came through; each name once."""
        answer = self.get(url, **options)
        assert answer.status_code == 200, answer.text
        pairs = answer.json()
        names = [name.lower() for name, _ in pairs]
        assert len(names) == len(set(names))
        return {name.lower(): value for name, value in pairs}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    find_nginx()
    return trustme.CA()


def make_front(folder: Path, authority: trustme.CA, ports: tuple[int, int]) -> Front:
    authority.cert_pem.write_to_path(folder / "authority.pem")
    operators, readers = (f"https://127.0.0.1:{port}" for port in ports)
    return Front(operators, readers, folder / "authority.pem")


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("basic")
    (folder / "operators").write_text(f"ann:{hashed('right')}\n", encoding="utf-8")
    (folder / "readers").write_text(f"rob:{hashed('read')}\n", encoding="utf-8")
    ports = free_port(), free_port()
    with echoing() as writable, echoing() as readable:
        replaced = {
            "listen 443 ssl": listening(ports[0]),
            "listen 8443 ssl": listening(ports[1]),
            "127.0.0.1:3000;": f"127.0.0.1:{writable};",
            "127.0.0.1:3001;": f"127.0.0.1:{readable};",
            "/etc/nginx/catalog-pipeline-operators.htpasswd": str(folder / "operators"),
            "/etc/nginx/catalog-pipeline-readers.htpasswd": str(folder / "readers"),
        }
        with running_nginx(folder, "basic-auth.conf", replaced, authority):
            yield make_front(folder, authority, ports)


def test_basic_auth_lets_in_who_knows_the_password(basic: Front) -> None:
    for door, right, other in (
        (basic.operators, ("ann", "right"), ("rob", "read")),
        (basic.readers, ("rob", "read"), ("ann", "right")),
    ):
        assert basic.get(door).status_code == 401
        assert basic.get(door, auth=(right[0], "wrong")).status_code == 401
        assert basic.get(door, auth=other).status_code == 401
        assert basic.get(f"{door}/graphql?query=x").status_code == 401
        assert basic.get(door, auth=right).status_code == 200


def test_basic_auth_tells_the_server_who_it_is_and_nothing_a_client_made_up(basic: Front) -> None:
    reached = basic.reached(basic.operators, auth=("ann", "right"), headers=SPOOFED)
    assert reached["x-forwarded-user"] == "ann"
    assert reached["x-forwarded-for"] == "127.0.0.1"
    assert "root" not in str(reached)
    assert "operators" not in str(reached)
    assert "authorization" not in reached


def test_a_websocket_passes_only_with_a_login(basic: Front) -> None:
    context = ssl.create_default_context(cafile=str(basic.bundle))
    url = basic.operators.replace("https", "wss") + "/graphql"
    with pytest.raises(InvalidStatus, match="401"):
        connect(url, ssl=context, proxy=None)
    login = requests.Request("GET", basic.operators, auth=("ann", "right")).prepare().headers
    sent = {"Authorization": login["Authorization"], "X-Forwarded-User": "root"}
    with connect(url, ssl=context, proxy=None, additional_headers=sent) as socket:
        headers = {name.lower(): value for name, value in json.loads(socket.recv())}
        assert headers["x-forwarded-user"] == "ann"
        assert "authorization" not in headers
        socket.send("hello")
        assert socket.recv() == "hello"


@pytest.mark.parametrize(
    ("headers", "method", "refused"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "{door}"}, "POST", False),
        ({"Sec-Fetch-Site": "none"}, "GET", False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "GET", False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "POST", True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "GET", True),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, "POST", True),
        ({"Origin": "https://evil.example.com"}, "POST", True),
        ({"Origin": "{door}.evil.example.com"}, "POST", True),
        ({"Origin": "null"}, "POST", True),
    ],
)
def test_another_site_cannot_use_the_login_that_a_browser_keeps(
    basic: Front, headers: dict[str, str], method: str, refused: bool
) -> None:
    answer = requests.request(
        method,
        f"{basic.operators}/graphql",
        headers={name: value.format(door=basic.operators) for name, value in headers.items()},
        auth=("ann", "right"),
        verify=str(basic.bundle),
    )
    assert (answer.status_code == 403) == refused


def _session(request: Request) -> Response:
    """As oauth2-proxy answers ``/oauth2/auth`` with ``--set-xauthrequest``."""
    cookie = request.headers.get("Cookie", "")
    if "session=ann" not in cookie and "session=rob" not in cookie:
        return plain(HTTPStatus.UNAUTHORIZED)
    user = "ann" if "session=ann" in cookie else "rob"
    if "allowed_groups=catalog-operators" in request.path and user != "ann":
        return plain(HTTPStatus.FORBIDDEN)
    who = {"X_Auth_Request_User": user, "X_Auth_Request_Email": f"{user}@example.com"}
    return plain(HTTPStatus.ACCEPTED, **who)


def _login(_: Request) -> Response:
    return plain(HTTPStatus.FOUND, Location="https://id.example.com/authorize")


@pytest.fixture(scope="module")
def oidc(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("oidc")
    ports = free_port(), free_port()
    provider: dict[str, Callable[[Request], Response]] = {
        "/oauth2/auth": _session,
        "/oauth2/start": _login,
    }
    with echoing() as writable, echoing() as readable, echoing(provider) as proxy:
        replaced = {
            "listen 443 ssl": listening(ports[0]),
            "listen 8443 ssl": listening(ports[1]),
            "127.0.0.1:3000;": f"127.0.0.1:{writable};",
            "127.0.0.1:3001;": f"127.0.0.1:{readable};",
            "http://127.0.0.1:4180": f"http://127.0.0.1:{proxy}",
        }
        with running_nginx(folder, "oidc.conf", replaced, authority):
            yield make_front(folder, authority, ports)


def test_without_a_session_oidc_leads_to_the_login(oidc: Front) -> None:
    for door in (oidc.operators, oidc.readers):
        answer = oidc.get(f"{door}/runs/1", headers=SPOOFED)
        assert answer.status_code == 302
        assert answer.headers["Location"].endswith("/oauth2/start?rd=/runs/1")
        login = oidc.get(f"{door}/oauth2/start?rd=/runs/1")
        assert login.headers["Location"] == "https://id.example.com/authorize"
        # What nginx asks the provider by is no page of its own.
        assert oidc.get(f"{door}/catalog-session").status_code == 404


def test_with_a_session_the_server_learns_who_it_is_from_the_provider_alone(oidc: Front) -> None:
    for door, user in ((oidc.operators, "ann"), (oidc.readers, "rob")):
        reached = oidc.reached(door, cookies={"session": user}, headers=SPOOFED)
        assert reached["x-forwarded-user"] == user
        assert reached["x-forwarded-email"] == f"{user}@example.com"
        assert "root" not in str(reached)
        assert "cookie" not in reached
        assert not {"x-forwarded-groups", "x-auth-request-user"} & set(reached)


def test_a_reader_is_no_operator(oidc: Front) -> None:
    assert oidc.get(oidc.operators, cookies={"session": "rob"}).status_code == 403
    assert oidc.get(oidc.readers, cookies={"session": "ann"}).status_code == 200


def test_a_websocket_passes_only_with_a_session(oidc: Front) -> None:
    context = ssl.create_default_context(cafile=str(oidc.bundle))
    url = oidc.operators.replace("https", "wss") + "/graphql"
    with pytest.raises(InvalidURI, match="/oauth2/start"):  # it is led there by a 302
        connect(url, ssl=context, proxy=None)
    sent = {"Cookie": "session=ann", "X-Forwarded-Email": "root@example.com"}
    with connect(url, ssl=context, proxy=None, additional_headers=sent) as socket:
        headers = {name.lower(): value for name, value in json.loads(socket.recv())}
        assert headers["x-forwarded-email"] == "ann@example.com"
        socket.send("hello")
        assert socket.recv() == "hello"
