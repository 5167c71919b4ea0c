"""Models of the Hugging Face Hub: safetensors, ONNX and OpenVINO files only; never pickles, never code.

The network is used only when somebody pulls. Every file is compared with the hash that the Hub lists for it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import msgspec

from saccade.card import Card
from saccade.errors import CorruptFiles, MissingExtra, UnknownModel, Unreachable, UnsupportedModel
from saccade.stores import architectures, repository
from saccade.stores.catalogue import Offer
from saccade.stores.local import Local
from saccade.stores.sidecar import Sidecar
from saccade.stores.store import Progress, alone, silent

REF = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w.-]*))?")
"""owner/name, and with "@" a branch, tag or commit."""
PAGE = re.compile(
    r"(?:(?:https?://?)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?|hf://?)?"
    + REF.pattern
    + r"(?:/tree/([A-Za-z0-9][\w.-]*))?/?(?:[?#].*)?"
)
"""What people copy in its place: the address of the model's page, also of its list of files in a revision.

As part of a path it has lost one of its slashes.
"""
ENDPOINT = "https://huggingface.co"
DRAFTS = ".drafts"
COMMIT = re.compile(r"[0-9a-f]{40}")
FACTS = (repository.CONFIG, repository.PREPROCESSOR, repository.PROCESSOR)
CONVERTER = "SFconvertbot"
"""The Hub's own program that turns pickles into safetensors, and offers them in pull requests."""
TIMEOUT_S = 30.0


def ref_of(ref: str) -> str:
    """The id that an address of a model's page on the Hub means; other refs as they are."""
    match = PAGE.fullmatch(ref.strip()) if REF.fullmatch(ref) is None else None
    if match is None:
        return ref
    revision = match[2] or match[3] or "main"
    return match[1] if revision == "main" else f"{match[1]}@{revision}"


class Hub:
    """A Store that fetches repositories into ``home``; ``token`` opens private and gated ones."""

    on_use = False

    def __init__(self, home: Path, token: str | None = None, endpoint: str | None = None) -> None:
        self.home = home
        self.token = token
        self.endpoint = endpoint or ENDPOINT
        self.local = Local([home])

    def find(self, ref: str) -> Card | None:
        return self.local.find(ref) if REF.fullmatch(ref) else None

    def offers(self, ref: str) -> bool:
        return REF.fullmatch(ref) is not None

    def offered(self) -> tuple[Offer, ...]:
        return ()

    def cards(self) -> Iterable[Card]:
        return ()

    def pull(self, ref: str, progress: Progress = silent) -> Card:
        """See :class:`saccade.stores.store.Store`.

        Raises:
            MissingExtra: huggingface_hub is not installed.
            UnsupportedModel: no family reads its architecture, or it has only pickles.
            Unreachable: the Hub does not answer.
        """
        match = REF.fullmatch(ref)
        if match is None:
            raise UnknownModel(f"'{ref}' is no id of the Hub; those look like owner/name or owner/name@revision.")
        found = self.local.find(ref)
        if found is not None:
            return found
        with alone(self.home.with_name("making") / ref.replace("/", "--")):
            found = self.local.find(ref)  # who was quicker has brought it
            if found is None:
                with explained(ref, bool(self.token)):
                    facts = self.information(match[1], match[2])
                    self.fetch(ref, match[1], facts, progress)
                found = self.local.find(ref)
        if found is None:
            raise CorruptFiles(f"'{ref}' was fetched, but cannot be found in saccade's home.")
        return found

    def information(self, repo: str, revision: str | None) -> Any:
        """The Hub's own description: commit, files with sizes and hashes, licence."""
        api = library().HfApi(endpoint=self.endpoint, token=self.token or False)
        return api.model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)

    def fetch(self, ref: str, repo: str, facts: Any, progress: Progress) -> None:
        """Brings the wanted files together in a draft and moves it into place."""
        listed = {str(file.rfilename): file for file in facts.siblings or ()}
        draft = self.home / DRAFTS / f"{ref.replace('/', '--')}-{facts.sha}"
        draft.mkdir(parents=True, exist_ok=True)
        for former in begun(draft, str(facts.sha)):
            shutil.rmtree(former, ignore_errors=True)
        single = lone_graph(listed)
        graphs = repository.GRAPHS
        if single is None and repository.ADAPTER in listed and listed.keys().isdisjoint(repository.WEIGHTS):
            raise repository.adapter(ref)
        if single is None:
            self.some(repo, facts.sha, FACTS, listed, draft, progress)
            if supported(ref, draft).words:
                graphs = ()
                self.some(repo, facts.sha, repository.TOKENIZER, listed, draft, progress)
        wanted: tuple[str, ...] = (single,) if single else self.weights(ref, repo, listed, graphs)
        if wanted == (repository.SHARDED,):
            table = self.file(repo, facts.sha, listed[repository.SHARDED], draft, silent)
            wanted = shards(ref, repository.document(table, ref), listed)
        if single is None and wanted[0] not in graphs:
            check_prepared(ref, draft)
        for name in wanted:
            self.file(repo, facts.sha, listed[name], draft, progress)
        shutil.rmtree(draft / ".cache", ignore_errors=True)
        self.place(ref, draft, single, facts)

    def weights(self, ref: str, repo: str, listed: Mapping[str, Any], graphs: tuple[str, ...]) -> tuple[str, ...]:
        """As :func:`weights`; its refusal tells of a conversion that waits for the owner's consent."""
        try:
            return weights(ref, listed, graphs)
        except UnsupportedModel as error:
            commit = self.proposed(repo)
            if commit is None:
                raise
            raise UnsupportedModel(
                f"'{ref}' has no {repository.PLAIN} yet, but the Hub's own converter has proposed one to its owner. "
                f"To use that, fetch: saccade pull {repo}@{commit}"
            ) from error

    def proposed(self, repo: str) -> str | None:
        """The commit of the pull request in which the Hub's converter offers safetensors, if there is one."""
        api = library().HfApi(endpoint=self.endpoint, token=self.token or False)
        open_ones = {"discussion_type": "pull_request", "discussion_status": "open"}
        with suppress(library().errors.HTTPError):  # an owner may have switched discussions off
            for proposal in api.get_repo_discussions(repo, author=CONVERTER, **open_ones):
                facts = api.model_info(repo, revision=f"refs/pr/{proposal.num}", timeout=TIMEOUT_S)
                names = {str(file.rfilename) for file in facts.siblings or ()}
                if proposal.author == CONVERTER and names & {repository.PLAIN, repository.SHARDED}:
                    return str(facts.sha)
        return None

    def some(
        self, repo: str, commit: str, names: Iterable[str], listed: Mapping[str, Any], draft: Path, progress: Progress
    ) -> None:
        """Those of these files that the repository has."""
        for name in names:
            if name in listed:
                self.file(repo, commit, listed[name], draft, progress)

    def file(self, repo: str, commit: str, listed: Any, draft: Path, progress: Progress) -> Path:
        """One file, resumed if it was begun, and as the Hub lists it."""
        name = str(listed.rfilename)
        path = draft / name
        if not (path.is_file() and genuine(path, listed)):
            library().hf_hub_download(
                repo,
                name,
                revision=commit,
                local_dir=draft,
                token=self.token or False,
                endpoint=self.endpoint,
                tqdm_class=bar(PurePosixPath(name).name, progress),
            )
        if not genuine(path, listed):
            path.unlink(missing_ok=True)
            raise CorruptFiles(
                f"What arrived as {name} of '{repo}' is not what the Hub lists. It was deleted. Try again."
            )
        return path

    def place(self, ref: str, draft: Path, single: str | None, facts: Any) -> None:
        """The finished model under its name, its facts beside it."""
        target = self.home / ref
        target.parent.mkdir(parents=True, exist_ok=True)
        card = facts.card_data
        licence = (card.get("license") if card is not None else None) or "unknown"
        notes = Sidecar(
            licence=str(licence), source=f"{repository_url(self.endpoint)}/{ref}", revision=str(facts.sha)[:12]
        )
        target.with_name(target.name + ".json").write_bytes(msgspec.json.format(msgspec.json.encode(notes)))
        if single is None:
            shutil.rmtree(target, ignore_errors=True)
            draft.replace(target)
        else:
            (draft / single).replace(target.with_name(target.name + PurePosixPath(single).suffix))
            shutil.rmtree(draft, ignore_errors=True)


def begun(draft: Path, commit: str) -> list[Path]:
    """The drafts of other commits of the same ref, which nobody will go on with."""
    stem = draft.name.removesuffix(commit)
    others = [path for path in draft.parent.glob(f"{stem}*") if COMMIT.fullmatch(path.name.removeprefix(stem))]
    return [path for path in others if path != draft]


def lone_graph(listed: Mapping[str, Any]) -> str | None:
    """The only ONNX file of a repository that has no configuration, such as an exported YOLO."""
    graphs = [name for name in listed if name.endswith(".onnx")]
    return graphs[0] if repository.CONFIG not in listed and len(graphs) == 1 else None


def supported(ref: str, draft: Path) -> architectures.Architecture:
    """The architecture; raises before the weights travel, if no family reads it."""
    if not (draft / repository.CONFIG).is_file():
        raise UnsupportedModel(
            f"'{ref}' has no {repository.CONFIG} and not exactly one ONNX file, so that nothing says how to read it."
        )
    return repository.architecture(repository.document(draft / repository.CONFIG, ref), ref)


def check_prepared(ref: str, draft: Path) -> None:
    """Raises CorruptFiles before the weights travel, if nothing says how pictures are prepared for them."""
    if repository.processor(draft, ref, repository.document(draft / repository.CONFIG, ref))[1] is None:
        raise repository.unprepared(ref)


def weights(ref: str, listed: Mapping[str, Any], graphs: tuple[str, ...] = repository.GRAPHS) -> tuple[str, ...]:
    """The files of the best form in which the repository holds its weights; of several shards, their table.
    ``graphs`` are the ready ones that can be used."""
    for graph in graphs:
        xml = graph.endswith(".xml")
        partners = (graph.removesuffix(".xml") + ".bin",) if xml else (graph + "_data", graph + ".data")
        # Large ones are cut into several: model.onnx_data, model.onnx_data_1, …
        beside = sorted(file for file in listed if graph in listed and file.startswith(partners))
        if graph in listed and (beside or not xml):
            return (graph, *beside)
    for single in (repository.PLAIN, repository.SHARDED):
        if single in listed:
            return (single,)
    if any(graph in listed for graph in repository.GRAPHS):
        raise UnsupportedModel(
            f"'{ref}' holds ready graphs only; a model of its kind is made of {repository.PLAIN}. Look for the "
            "repository from which the graphs were made."
        )
    raise UnsupportedModel(
        f"'{ref}' holds its weights neither as safetensors nor as ONNX or OpenVINO. Pickles can run any code when they "
        "are opened, so saccade never fetches them. Look for a revision or a copy with model.safetensors."
    )


def shards(ref: str, table: Mapping[str, Any], listed: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a table of shards names, all of them in the repository's root."""
    named = table.get("weight_map")
    found = sorted({str(shard) for shard in named.values()}) if isinstance(named, dict) else []
    if not found or not all(shard in listed and PurePosixPath(shard).name == shard for shard in found):
        raise CorruptFiles(f"{repository.SHARDED} of '{ref}' names files that the repository does not have.")
    return tuple(found)


def genuine(path: Path, listed: Any) -> bool:
    """Whether a file has the size and the hash that the Hub lists: sha256 of large files, git's sha1 of small ones."""
    if not path.is_file() or (listed.size is not None and path.stat().st_size != listed.size):
        return False
    lfs = listed.lfs
    with path.open("rb") as file:
        if lfs is not None:
            return hashlib.file_digest(file, "sha256").hexdigest() == str(lfs["sha256"])
        if listed.blob_id is None:
            return True
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        digest.update(file.read())
        return digest.hexdigest() == str(listed.blob_id)


def repository_url(endpoint: str) -> str:
    return endpoint.partition("://")[2].rstrip("/")


def bar(what: str, progress: Progress) -> type[Any]:
    """A stand-in for the progress bar of huggingface_hub that tells ours."""
    silenced: type[Any] = import_module("tqdm").tqdm

    class Told(silenced):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": False})

        def display(self, *arguments: Any, **options: Any) -> None: ...

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            progress(what, int(self.n), None if self.total is None else int(self.total))
            return shown

        def close(self) -> None:
            self.disable = True

    return Told


@contextmanager
def explained(ref: str, with_token: bool) -> Iterator[None]:
    """Turns the library's many errors into ours."""
    errors = library().errors
    hint = "the token has no access to it" if with_token else "it is private; set HF_TOKEN then"
    try:
        yield
    except errors.GatedRepoError:
        raise UnknownModel(
            f"'{ref}' is gated: accept its conditions on its page on the Hub, and set HF_TOKEN to that account's token."
        ) from None
    except errors.RepositoryNotFoundError:
        raise UnknownModel(f"The Hub has no model '{ref}', or {hint}. Check the spelling: owner/name.") from None
    except errors.RevisionNotFoundError:
        raise UnknownModel(f"'{ref}' names a revision that the model does not have.") from None
    except errors.OfflineModeIsEnabled:
        raise Unreachable(
            "HF_HUB_OFFLINE forbids fetching from the Hub. Unset it, or add the model from disk."
        ) from None
    except (errors.HTTPError, errors.LocalEntryNotFoundError):
        raise Unreachable(
            f"The Hub does not answer, so '{ref}' cannot be fetched. Try again later (it goes on where it stopped), or "
            "copy the model's folder here and serve it with --models."
        ) from None


def library() -> ModuleType:
    """huggingface_hub, which is optional."""
    try:
        module = import_module("huggingface_hub")
        import_module("huggingface_hub.errors")
    except ImportError:
        raise MissingExtra("Fetching from the Hugging Face Hub", extra="hub") from None
    return module
