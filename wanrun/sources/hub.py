"""The source for ``hf.co/user/repo[/path/file][:QUANT][@revision]``: files on the Hugging Face Hub.

Listing, revisions and tokens go through huggingface_hub (``HF_TOKEN``, the file of ``hf auth login``,
``HF_ENDPOINT``, ``HF_HUB_OFFLINE``); the bytes come through our own download, which resumes and verifies.
A revision is pinned to its commit before anything is fetched.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from wanrun.errors import DownloadError, InvalidRequest, ModelNotFound
from wanrun.sources.download import Refused, Remote, download
from wanrun.store.blobs import blob_path
from wanrun.store.digest import Digest
from wanrun.types import Progress

#: What a repository's one file is taken from when no quant is named, the first that there is.
DEFAULT_QUANTS = ("Q4_K_M", "Q8_0", "F16", "BF16")
ENDINGS = (".gguf", ".safetensors")

_TIMEOUT_S = 30
_HOST = re.compile(r"(?:hf\.co|huggingface\.co)/", re.IGNORECASE)
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_QUANT = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?I?Q[1-8](?:_[A-Z0-9]{1,3}){0,3}|TQ[12]_0|BF16|F16|F32|FP16|FP8(?:_E[45]M[23](?:FN)?)?)"
    r"(?![A-Za-z0-9_])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """A reference in parts; ``path`` and ``quant`` are empty and ``revision`` is None where not given."""

    repo: str
    path: str = ""
    quant: str = ""
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file of a repository; ``digest`` is known for those in LFS, which all large ones are."""

    path: str
    size: int
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at ``commit``, by path."""

    repo: str
    commit: str
    files: tuple[File, ...]


def parse(reference: str) -> Place:
    """The parts of ``reference``; InvalidRequest when it is none."""
    match = _HOST.match(reference)
    rest, at, revision = reference[match.end() if match else 0 :].partition("@")
    user, _, below = rest.partition("/")
    name, slash, path = below.partition("/")
    quant = ""
    if not slash:
        name, colon, quant = name.partition(":")
        if colon and not quant:
            raise _invalid(reference)
    repo = f"{user}/{name}"
    parts = path.split("/") if slash else ["file"]
    sound = _REPO.fullmatch(repo) and ".." not in repo and (not at or _REVISION.fullmatch(revision))
    if not match or not sound or any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise _invalid(reference)
    return Place(repo, path, quant, revision if at else None)


def files(repo: str, revision: str | None = None) -> Listing:
    """What ``repo`` holds at ``revision`` (a branch, tag or commit; None for the main branch).

    Raises ModelNotFound when there is no such repository or revision for this user, DownloadError otherwise.
    """
    from huggingface_hub import HfApi

    try:
        found = HfApi(endpoint=endpoint(), library_name="wanrun").model_info(
            repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_S
        )
        listed = tuple(
            _file(each.rfilename, each.size, each.lfs.sha256 if each.lfs else None)
            for each in found.siblings or ()
        )
        commit = str(found.sha)
    except Exception as error:  # whatever that library or the HTTP library of its version raises
        raise _explained(repo, revision, error) from error
    if not _COMMIT.fullmatch(commit):
        raise DownloadError(f"the Hub names no commit for {repo}, but {commit!r:.100}")
    return Listing(repo, commit, tuple(sorted(listed, key=lambda file: file.path)))


def remote(listing: Listing, file: File) -> Remote:
    """Where to download ``file`` from, with the user's token if there is one."""
    from huggingface_hub import constants, get_token, hf_hub_url

    url = hf_hub_url(listing.repo, file.path, revision=listing.commit, endpoint=endpoint())
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    login = {"Authorization": f"Bearer {token}"} if token else {}
    return Remote(url, file.size, file.digest, login, Path(file.path).name)


def quants(listing: Listing) -> tuple[str, ...]:
    """The quants and precisions that the file names speak of, in capitals, sorted."""
    models = [file.path for file in listing.files if file.path.lower().endswith(ENDINGS)]
    return tuple(sorted({match[1].upper() for path in models for match in _QUANT.finditer(path)}))


def select(listing: Listing, quant: str) -> tuple[File, ...]:
    """The model files of ``quant``, in any case: all with it in their names, or the one that is called so."""
    named = re.compile(rf"(?<![A-Za-z0-9]){re.escape(quant)}(?![A-Za-z0-9_])", re.IGNORECASE)
    models = [file for file in listing.files if file.path.lower().endswith(ENDINGS)]
    exact = [file for file in models if Path(file.path).name.lower() == quant.lower()]
    return tuple(exact or [file for file in models if named.search(file.path)])


def find(place: Place) -> tuple[Listing, File]:
    """The one file that ``place`` stands for; ModelNotFound with those that there are when it is none."""
    listing = files(place.repo, place.revision)
    if place.path:
        found = tuple(file for file in listing.files if file.path == place.path)
    elif place.quant:
        found = select(listing, place.quant)
    else:
        models = tuple(file for file in listing.files if file.path.lower().endswith(ENDINGS))
        choices = [models, *(select(listing, quant) for quant in DEFAULT_QUANTS)]
        found = next((choice for choice in choices if len(choice) == 1), models)
    if len(found) == 1:
        return listing, found[0]
    asked = place.path or place.quant or "one model file"
    problem = f"several files are {asked!r}" if found else f"there is no {asked!r}"
    there = ", ".join(file.path for file in (found or listing.files) if file.path.lower().endswith(ENDINGS))
    raise ModelNotFound(f"hf.co/{place.repo}: {problem}; name one of: {there or 'none'}"[:2000])


def fetch(reference: str, into: Path, progress: Progress) -> Path:
    """Brings the file into the blob folder ``into``, checked; returns the blob's path.

    Raises InvalidRequest for what is no such reference, ModelNotFound, DownloadError, StoreError.
    """
    place = parse(reference)
    listing, file = find(place)
    try:
        digest, _ = download(remote(listing, file), into, progress)
    except Refused as error:
        raise _refused(place.repo, error) from error
    return blob_path(into, digest)


def endpoint() -> str:
    """The Hub's address, ``HF_ENDPOINT`` or the usual one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _invalid(reference: str) -> InvalidRequest:
    return InvalidRequest(
        f"{reference!r:.300} is no file on the Hub: write hf.co/user/repo[/path/file][:QUANT][@revision]"
    )


def _file(path: object, size: object, sha256: object) -> File:
    if not isinstance(path, str) or type(size) is not int or size < 0:
        raise ValueError(f"{path!r:.100} has the size {size!r:.100}")
    return File(path, size, None if sha256 is None else Digest(str(sha256)))


def _explained(repo: str, revision: str | None, error: Exception) -> ModelNotFound | DownloadError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return DownloadError(_terms(repo))
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(
            f"hf.co/{repo}: no such repository, or it is private: check the name, "
            "or set HF_TOKEN to a token that may read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"hf.co/{repo}: no revision {revision!r:.100}; leave it out for the main branch")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return DownloadError(f"hf.co/{repo}: HF_HUB_OFFLINE is set, so the Hub is not asked; unset it")
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = f"{endpoint()} answered {status}" if status else f"{type(error).__name__} from {endpoint()}"
    return DownloadError(f"cannot list hf.co/{repo}: {reason}; try again later")


def _refused(repo: str, error: Refused) -> DownloadError:
    return Refused(error.status, _terms(repo)) if error.status in (401, 403) else error


def _terms(repo: str) -> str:
    return (
        f"hf.co/{repo} is not open to everybody: accept its terms at {endpoint()}/{repo}, "
        "then set HF_TOKEN or run 'hf auth login' with a token that may read it"
    )
