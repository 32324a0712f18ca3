"""Downloads from servers that cut, lie, stall and change their minds."""

from __future__ import annotations

import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sources.servers import Fault, Handler, Site, noise, serving
from wanrun.errors import DownloadError, InvalidRequest, StoreError
from wanrun.sources import parts, ranged
from wanrun.sources.download import Policy, Refused, Remote, download
from wanrun.sources.remote import redirected
from wanrun.store.digest import Digest

ROOT = Path(__file__).parents[2]
DATA = noise(300_000)
DIGEST = Digest.of(DATA)
#: As patient as a test can be, with pieces so small that there are many.
HASTY = Policy(connect_s=2, stall_s=0.5, tries=4, pause_s=0.01, piece=1 << 16, save_s=0.05)


def quiet(phase: str, done: int, total: int) -> None:
    """Shows nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"/file": DATA}) as site:
        yield site


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def remote(site: Site, path: str = "/file", **known: Any) -> Remote:
    return replace(Remote(site.url + path, len(DATA), DIGEST, {}, "the file"), **known)


def pull(site: Site, blobs: Path, policy: Policy = HASTY, **known: Any) -> tuple[Digest, int]:
    return download(remote(site, **known), blobs, quiet, policy)


def hold(blobs: Path, *data: bytes) -> None:
    """The folder has blobs of just these bytes, read-only, and nothing else."""
    names = sorted(Digest.of(each).file_name for each in data)
    assert sorted(path.name for path in blobs.iterdir()) == names
    for each in data:
        path = blobs / Digest.of(each).file_name
        assert path.read_bytes() == each
        assert path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("size", [None, len(DATA)])
@pytest.mark.parametrize("digest", [None, DIGEST])
@pytest.mark.parametrize("piece", [1 << 16, 1 << 20])
def test_a_file(site: Site, blobs: Path, size: int | None, digest: Digest | None, piece: int) -> None:
    seen: list[tuple[str, int, int]] = []
    policy = replace(HASTY, piece=piece)
    source = remote(site, size=size, digest=digest)
    assert download(source, blobs, lambda *event: seen.append(event), policy) == (DIGEST, len(DATA))
    hold(blobs, DATA)
    assert site.sent["/file"] == len(DATA)
    assert {phase for phase, _, _ in seen} <= {"pulling the file", "checking the file"}
    assert all(0 <= done <= len(DATA) and total in (0, len(DATA)) for _, done, total in seen)
    asked = {headers["range"] for headers in site.headers("/file")}
    assert len(asked) == (5 if piece == 1 << 16 else 1)


@pytest.mark.parametrize("data", [b"", b"x"])
@pytest.mark.parametrize("known", [True, False])
def test_small_files(blobs: Path, data: bytes, known: bool) -> None:
    with serving({"/small": data}) as site:
        size, digest = (len(data), Digest.of(data)) if known else (None, None)
        assert pull(site, blobs, path="/small", size=size, digest=digest) == (Digest.of(data), len(data))
    hold(blobs, data)


def test_what_is_there_is_not_asked_for(site: Site, blobs: Path) -> None:
    pull(site, blobs)
    asked = len(site.requests)
    pull(site, blobs)
    pull(site, blobs, size=None)
    assert len(site.requests) == asked
    path = blobs / DIGEST.file_name
    path.chmod(0o644)
    path.write_bytes(b"cut")
    pull(site, blobs)
    hold(blobs, DATA)


def test_cuts_at_any_byte(site: Site, blobs: Path) -> None:
    rng = random.Random(3)
    site.next["/file"] = [Fault(cut=rng.randrange(1, 1 << 16)) for _ in range(12)]
    assert pull(site, blobs, replace(HASTY, gain=1)) == (DIGEST, len(DATA))
    hold(blobs, DATA)
    assert site.sent["/file"] == len(DATA)


@pytest.mark.parametrize("digest", [None, DIGEST])
def test_another_process_goes_on(site: Site, blobs: Path, digest: Digest | None) -> None:
    one = replace(HASTY, workers=1, tries=1)
    for _ in range(3):
        site.always["/file"] = Fault(cut=50_000)
        with pytest.raises(DownloadError, match=r"the connection failed .* run the same command again"):
            pull(site, blobs, one, digest=digest)
        assert len(list(blobs.iterdir())) == 2
    site.always.clear()
    assert pull(site, blobs, one, digest=digest) == (DIGEST, len(DATA))
    hold(blobs, DATA)
    assert site.sent["/file"] == len(DATA)


@pytest.mark.parametrize("digest", [None, DIGEST])
def test_a_server_without_ranges(site: Site, blobs: Path, digest: Digest | None) -> None:
    site.always["/file"] = Fault(ranges=False)
    site.next["/file"] = [Fault(ranges=False, cut=100_000)]
    assert pull(site, blobs, digest=digest) == (DIGEST, len(DATA))
    hold(blobs, DATA)
    assert site.sent["/file"] <= 100_000 + 2 * len(DATA)
    site.always["/file"] = Fault(ranges=False, cut=100_000)
    with pytest.raises(DownloadError, match=r"from the start only|in one answer only"):
        pull(site, blobs.with_name("other"), digest=digest)
    hold(blobs.with_name("other"))


def test_ranges_that_stop_being_served(site: Site, blobs: Path) -> None:
    site.next["/file"] = [Fault(), Fault(ranges=False), Fault(ranges=False)]
    assert pull(site, blobs, replace(HASTY, workers=1)) == (DIGEST, len(DATA))
    hold(blobs, DATA)


@pytest.mark.parametrize(
    ("fault", "known", "message"),
    [
        (Fault(body=noise(300_000, 1)), {}, "is damaged: its digest .* nothing of it was kept"),
        (Fault(body=noise(200_000)), {}, "has 200000 bytes of it, but it must have 300000"),
        (Fault(body=noise(400_000)), {}, "has 400000 bytes of it, but it must have 300000"),
        (Fault(ranges=False, length=len(DATA) + 1), {"size": None, "digest": None}, "start only"),
        (Fault(ranges=False, length=-1, body=noise(400_000)), {}, "more bytes come than were announced"),
        (Fault(ranges=False, length=-1), {"size": None, "digest": None}, "more bytes come than"),
        (Fault(ranges=False, length=-2), {"size": None, "digest": None}, "does not say how long it is; give"),
        (Fault(length=10), {}, "lengths contradict each other, 4 times in a row"),
        (Fault(content_range="bytes 0-9/300000"), {}, "lengths contradict"),
        (Fault(content_range="bytes 7-65542/300000"), {}, "another range than the one asked for"),
        (Fault(content_range="bytes 0-65535/3"), {"size": None}, "lengths contradict"),
        (Fault(content_range="bytes 0-65535/*"), {"size": None}, "does not say how long"),
        (Fault(content_range="bytes 0-" + "9" * 5000), {}, "another range"),
        (Fault(headers={"Content-Encoding": "gzip"}), {}, "sends it compressed"),
        (Fault(status=302), {}, "redirects to nowhere"),
        (Fault(status=302, headers={"Location": "http://[::1"}), {}, "the connection failed"),
        (Fault(status=302, headers={"Location": "file:///etc/passwd"}), {}, "redirects to nowhere"),
        (Fault(status=302, headers={"Location": "ftp://a/b"}), {}, "only https:// can be .* not ftp"),
        (Fault(status=302, headers={"Location": "/file"}), {}, "more than 5 redirects"),
        (Fault(status=204), {}, "answered 204"),
        (Fault(status=500), {}, "127.0.0.1 answered 500, 4 times in a row"),
        (Fault(status=429, headers={"Retry-After": "9999"}), {}, "answered 429 and asks to wait 9999 s"),
        (Fault(stall=0), {}, "no answer in time|the connection failed"),
    ],
)  # fmt: skip
def test_what_is_refused(site: Site, blobs: Path, fault: Fault, known: dict[str, Any], message: str) -> None:
    site.always["/file"] = fault
    with pytest.raises(DownloadError, match=message):
        pull(site, blobs, replace(HASTY, unannounced=100_000), **known)
    parts.sweep(blobs, -1)
    hold(blobs)


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "HF_TOKEN"), (403, "accept its terms"), (404, "check the name"), (410, "gone"), (418, "418")],
)
def test_no_is_not_asked_again(site: Site, blobs: Path, status: int, message: str) -> None:
    site.always["/file"] = Fault(status=status)
    with pytest.raises(Refused, match=f"answered {status}.*{message}|{message}") as caught:
        pull(site, blobs)
    assert caught.value.status == status
    assert len(site.requests) == 1
    hold(blobs)


def test_passing_failures(site: Site, blobs: Path) -> None:
    site.next["/file"] = [
        Fault(status=500),
        Fault(status=503, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}),
        Fault(status=429, headers={"Retry-After": "1"}),
    ]
    begin = time.monotonic()
    assert pull(site, blobs) == (DIGEST, len(DATA))
    assert 1 <= time.monotonic() - begin < 20
    hold(blobs, DATA)


@pytest.mark.parametrize("fault", [Fault(stall=10_000), Fault(drip_s=0.05)])
def test_a_server_that_stalls_or_drips(site: Site, blobs: Path, fault: Fault) -> None:
    site.next["/file"] = [fault]
    begin = time.monotonic()
    assert pull(site, blobs) == (DIGEST, len(DATA))
    assert time.monotonic() - begin < 30
    hold(blobs, DATA)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("etag", [None, "none"])
def test_a_file_that_changes_half_way(site: Site, blobs: Path, known: bool, etag: str | None) -> None:
    new = noise(300_000, 7)
    old = Fault(body=noise(300_000, 6), etag=etag)
    one = replace(HASTY, workers=1)
    site.files["/file"] = new
    site.next["/file"] = [old, replace(old, cut=100)]
    site.always["/file"] = Fault(etag=etag)
    digest = Digest.of(new) if known else None
    if known and etag:
        with pytest.raises(DownloadError, match="is damaged"):
            pull(site, blobs, one, digest=digest)
        hold(blobs)
    else:
        assert pull(site, blobs, one, digest=digest) == (Digest.of(new), 300_000)
        hold(blobs, new)


def test_a_damaged_half_is_fetched_again(site: Site, blobs: Path) -> None:
    one = replace(HASTY, workers=1, tries=1)
    site.next["/file"] = [Fault(), Fault(cut=100)]
    with pytest.raises(DownloadError):
        pull(site, blobs, one)
    path = parts.partial_path(blobs, remote(site))
    with path.open("r+b") as file:
        file.write(b"damaged")
    assert pull(site, blobs) == (DIGEST, len(DATA))
    hold(blobs, DATA)


@pytest.mark.parametrize(
    "journal",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"inode": 0, "size": 300000, "validator": "", "pieces": [[0, 300000, 300000]]}',
        b'{"inode": INODE, "size": 300000, "validator": "", "pieces": [[0, 300000, 300000]]}',
        b'{"inode": INODE, "size": 300000, "validator": "", "pieces": [[0, 9, 5]]}',
        b'{"inode": INODE, "size": 300000, "validator": "", "pieces": [[0, 0, null]]}',
        b'{"inode": INODE, "size": 1e999, "validator": "", "pieces": []}',
        b'{"inode": INODE, "size": true, "validator": "", "pieces": [[0, true, 1]]}',
        b'{"inode": INODE, "size": 300000, "validator": [], "pieces": [[-5, 0, 300000]]}',
    ],
)
def test_a_journal_that_is_no_good(site: Site, blobs: Path, journal: bytes) -> None:
    blobs.mkdir()
    path = parts.partial_path(blobs, remote(site))
    path.write_bytes(b"short")
    path.with_name(path.name + ".json").write_bytes(journal.replace(b"INODE", b"%d" % path.stat().st_ino))
    assert pull(site, blobs) == (DIGEST, len(DATA))
    hold(blobs, DATA)


@given(
    status=st.sampled_from([200, 206, 416, 429, 503]),
    start=st.sampled_from([0, 7]),
    values=st.fixed_dictionaries(
        {
            key: st.one_of(st.just(good), st.from_regex(loose, fullmatch=True), st.binary(max_size=20))
            for key, good, loose in (
                ("Content-Range", "bytes 0-9/10", r"bytes [0-9]{1,30}-[0-9]{0,3}/([0-9]{0,30}|\*)"),
                ("Content-Length", "10", r"[-+_0-9.]{0,25}"),
                (
                    "Retry-After",
                    "3",
                    r"([A-Z][a-z]{2}, )?[0-9]{1,4} [A-Z][a-z]{2} [0-9]{1,9} [0-9:]{0,9} [+-][0-9]{4,9}",
                ),
                ("ETag", '"a"', r'(W/)?"?[a-z]{0,3}"?'),
            )
        }
    ),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_headers_of_any_kind(status: int, start: int, values: dict[str, str | bytes]) -> None:
    raw = [(key.encode(), v if isinstance(v, bytes) else v.encode()) for key, v in values.items()]
    request = httpx.Request("GET", "https://example.org/a")
    response = httpx.Response(status, headers=raw, request=request)
    try:
        answer = ranged._checked(response, Remote("https://example.org/a"), (start, start + 100), "")
    except ranged.Passing as failure:
        assert failure.after_s >= 0
    except (ranged.Changed, DownloadError):
        pass
    else:
        assert answer.start in (start, 0)
        assert answer.stop is None or answer.start <= answer.stop
        assert answer.total is None or answer.stop is None or answer.stop <= answer.total


def test_a_token_stays_with_its_host(site: Site, blobs: Path) -> None:
    secret = {"Authorization": "Bearer hf_secret"}
    with serving({"/far": DATA}) as other:
        port = other.url.rpartition(":")[2]
        site.next["/file"] = [Fault(status=307, headers={"Location": "/near"})]
        site.always["/near"] = Fault(
            status=302, headers={"Location": f"http://localhost:{port}/far?signature=hf_signed"}
        )
        other.next["/far"] = [Fault(status=302, headers={"Location": f"{site.url}/file"}), Fault(status=404)]
        assert pull(site, blobs, headers=secret) == (DIGEST, len(DATA))
        first, back = site.headers("/file")[:2]
        assert first["authorization"] == "Bearer hf_secret"
        assert site.headers("/near")[0]["authorization"] == "Bearer hf_secret"
        assert "authorization" not in other.headers("/far")[0]
        assert "authorization" not in back
        with pytest.raises(DownloadError) as caught:
            pull(site, blobs.with_name("new"), path="/near", headers=secret, digest=Digest.of(b""), title="")
    assert "hf_s" not in str(caught.value) + repr(remote(site, headers=secret))


@pytest.mark.parametrize(
    ("origin", "location", "message"),
    [
        ("https://hf.co/a", "http://hf.co/b", "from https to http, which is not safe"),
        ("https://8.8.8.8/a", "https://127.0.0.1/b", "into a private network, to 127.0.0.1"),
        ("https://8.8.8.8/a", "https://2130706433/b", "into a private network"),
        ("https://8.8.8.8/a", "https://[::1]/b", "into a private network"),
        ("https://8.8.8.8/a", "https://169.254.169.254/latest", "into a private network"),
        ("https://8.8.8.8/a", "//localhost/b", "into a private network"),
        ("http://127.0.0.1/a", "http://8.8.8.8/b", "could be changed on the way"),
    ],
)
def test_where_a_redirect_must_not_go(origin: str, location: str, message: str) -> None:
    with pytest.raises(DownloadError, match=message):
        redirected(httpx.URL(origin), location, Remote(origin))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "only https:// can be downloaded, not file:"),
        ("gopher://a/b", "not gopher:"),
        ("/etc/passwd", "not a path:"),
        ("https:///x", "not https:"),
        ("http://example.org/a", "could be changed on the way: use https:// or give its #sha256="),
        ("https://a:99999/b", "not a URL"),
        ("https://a\n/b", "not a URL"),
    ],
)
def test_urls_that_are_not_asked(url: str, message: str, blobs: Path) -> None:
    with pytest.raises(InvalidRequest, match=message):
        download(Remote(url), blobs, quiet, HASTY)
    with pytest.raises(InvalidRequest, match="cannot be sent") as caught:
        download(Remote("https://a/b", headers={"Authorization": "secret\r\nX: y"}), blobs, quiet, HASTY)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["x" * 70, "127.0.0.1:9"])
def test_hosts_that_are_not_there(host: str, blobs: Path) -> None:
    with pytest.raises(
        DownloadError, match=r"its host has no valid name|no connection to its host \(\[Errno"
    ):
        download(Remote(f"http://{host}/a", digest=DIGEST), blobs, quiet, replace(HASTY, tries=2))
    hold(blobs)


def test_a_full_disk(site: Site, blobs: Path) -> None:
    huge = 1 << 59
    site.always["/file"] = Fault(content_range=f"bytes 0-65535/{huge}")
    with pytest.raises(StoreError, match=r"no room for the file: 576,46.* bytes are missing, .* are free in"):
        pull(site, blobs, size=huge)
    hold(blobs)


def test_cancelling_is_quick_and_keeps_what_came(site: Site, blobs: Path) -> None:
    site.always["/file"] = Fault(stall=40_000)
    patient = replace(HASTY, stall_s=60, workers=1)

    def cancel(phase: str, done: int, total: int) -> None:
        if done >= 40_000:
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        download(remote(site), blobs, cancel, patient)
    assert time.monotonic() - begin < 20
    site.always.clear()
    pull(site, blobs)
    hold(blobs, DATA)
    assert site.sent["/file"] == len(DATA)


@pytest.mark.parametrize("digest", [None, DIGEST])
def test_threads_share(site: Site, blobs: Path, digest: Digest | None) -> None:
    site.next["/file"] = [Fault(drip_s=0.001)]
    seen: list[int] = []
    policy = replace(HASTY, stall_s=60, slowest=0, piece=1 << 20)
    source = remote(site, digest=digest)
    site.files["/file"] = source_bytes = noise(1_000)
    source = replace(source, size=None, digest=digest and Digest.of(source_bytes))
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda _: download(source, blobs, lambda *e: seen.append(e[1]), policy), range(4))
        )
    assert set(found) == {(Digest.of(source_bytes), 1_000)}
    assert site.sent["/file"] == 1_000
    hold(blobs, source_bytes)


def test_a_server_that_takes_one_at_a_time(site: Site, blobs: Path) -> None:
    turn = threading.Lock()

    def one(handler: Handler) -> bool:
        if not turn.acquire(blocking=False):
            return handler.reply(503)
        try:
            time.sleep(0.2)
            handler.answer("/file", Fault())
        finally:
            turn.release()
        return True

    site.route = one
    assert pull(site, blobs, replace(HASTY, tries=5, pause_s=0.05)) == (DIGEST, len(DATA))
    hold(blobs, DATA)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate of our own for 127.0.0.1, which downloads in this test trust."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_over_https(tls: ssl.SSLContext, blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/file": DATA}, tls) as site, serving({"/file": DATA}) as plain:
        site.next["/file"] = [Fault(cut=10_000), Fault(stall=10_000)]
        assert pull(site, blobs) == (DIGEST, len(DATA))
        hold(blobs, DATA)
        other = blobs.with_name("other")
        site.always["/down"] = Fault(status=302, headers={"Location": f"{plain.url}/file"})
        with pytest.raises(DownloadError, match="from https to http, which is not safe"):
            pull(site, other, path="/down")
        assert plain.requests == []
        site.always["/file"] = Fault(stall=40_000)

        def cancel(phase: str, done: int, total: int) -> None:
            if done >= 40_000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            download(remote(site), other, cancel, replace(HASTY, stall_s=60))
        site.always.clear()
        assert pull(site, other) == (DIGEST, len(DATA))
        hold(other, DATA)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(DownloadError, match=r"no connection to its host .*certificate verify failed"):
            pull(site, blobs.with_name("third"), policy=replace(HASTY, tries=1))


PULL = """
import sys
from pathlib import Path
from wanrun.sources.download import Policy, Remote, download
from wanrun.store.digest import Digest
policy = Policy(connect_s=10, stall_s=30, tries=9, pause_s=0.1, piece=1 << 16, save_s=0.02)
url, digest, blobs = sys.argv[1:]
print("ready", flush=True)
download(Remote(url, None, Digest(digest), {}, "file"), Path(blobs), lambda *event: None, policy)
print("done", flush=True)
"""


def start(site: Site, blobs: Path, digest: Digest = DIGEST) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PULL, f"{site.url}/file", digest.hex, str(blobs)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def test_twenty_processes_bring_each_byte_once(site: Site, blobs: Path) -> None:
    processes = [start(site, blobs) for _ in range(20)]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert (process.returncode, output) == (0, b"ready\ndone\n")
    assert site.sent["/file"] == len(DATA)
    hold(blobs, DATA)


def forget_scratch(blobs: Path) -> None:
    """Removes the journal that a killed process was writing; the sweep takes it later."""
    for path in blobs.glob(".part-*"):
        path.unlink()


def test_killed_at_any_moment(site: Site, blobs: Path) -> None:
    rng = random.Random(11)
    for _ in range(5):
        site.always["/file"] = Fault(stall=rng.randrange(1 << 14, 1 << 16))
        with start(site, blobs) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
        whole = blobs / DIGEST.file_name  # what the turns bring may add up to it
        assert not whole.exists() or whole.read_bytes() == DATA
    site.always.clear()
    assert pull(site, blobs) == (DIGEST, len(DATA))
    forget_scratch(blobs)
    hold(blobs, DATA)


def test_a_waiter_takes_over(site: Site, blobs: Path) -> None:
    site.next["/file"], site.always["/file"] = [Fault()], Fault(stall=100)
    with start(site, blobs) as process:
        while site.sent["/file"] < 1 << 16:
            time.sleep(0.01)
        progress: list[tuple[int, int]] = []
        thread = threading.Thread(
            target=download,
            args=(remote(site), blobs, lambda _, done, total: progress.append((done, total)), HASTY),
        )
        thread.start()
        while not progress:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        site.always.clear()
        thread.join(60)
    forget_scratch(blobs)
    hold(blobs, DATA)
    assert progress[-1] == (len(DATA), len(DATA))


def test_sweeping_leaves_what_is_in_use(site: Site, blobs: Path) -> None:
    site.next["/file"] = [Fault(), Fault(cut=10)]
    with pytest.raises(DownloadError):
        pull(site, blobs, replace(HASTY, workers=1, tries=1))
    before = sorted(blobs.iterdir())
    assert parts.sweep(blobs) == 0
    path = parts.partial_path(blobs, remote(site))
    with parts.claim(path, lambda done, total: None):
        assert parts.sweep(blobs, -1) == 0
    assert sorted(blobs.iterdir()) == before
    os.utime(path, (0, 0))
    assert parts.sweep(blobs) == 2
    assert list(blobs.iterdir()) == []
