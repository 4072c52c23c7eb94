"""Models from and to the Hub: the real client against a server on this computer."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, file_download
from safetensors.torch import load_file, save, save_file

from inctrl_core import Detector, ModelError, load_detector
from inctrl_core.__main__ import main
from inctrl_core.checkpoints import loading
from inctrl_core.checkpoints.hub import fetch_file
from inctrl_core.checkpoints.tensor_files import PrefixedTensors
from inctrl_core.checkpoints.weights import HEADS_PREFIX, WEIGHTS_FILE
from inctrl_core.config import HeadsConfig, config_to_json, read_config
from inctrl_core.evaluation.report import MeasuredModel
from tests.support.hub_server import Hub, Repo, running_hub, sha256

GOLDEN = Path(__file__).parents[1] / "golden"
QUERIES = [GOLDEN / "query_0.png", GOLDEN / "query_1.png"]
NORMALS = [GOLDEN / "prompt_0.png", GOLDEN / "prompt_1.png"]
BACKBONE_FILE = "open_clip_model.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub, and a client that knows no other and has an empty cache."""
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "INCTRL_HEADS", "INCTRL_PRECISION"):
            monkeypatch.delenv(name, raising=False)
        yield hub


@pytest.fixture
def published(hub: Hub, golden_model: Path) -> Repo:
    """The golden model, whole, as someone/golden."""
    files = {path.name: path.read_bytes() for path in golden_model.iterdir()}
    return hub.repos.setdefault("someone/golden", Repo(files))


@pytest.fixture
def split(hub: Hub, golden_model: Path, tmp_path: Path) -> Path:
    """The golden model as a directory with heads only; its backbone is maker/backbone."""
    config = read_config(golden_model)
    tensors = load_file(golden_model / WEIGHTS_FILE)
    backbone = dict(PrefixedTensors(tensors, "backbone.")) | {"logit_scale": torch.tensor(4.6)}
    hub.repos["maker/backbone"] = Repo({BACKBONE_FILE: save(backbone)})
    directory = tmp_path / "split"
    directory.mkdir()
    elsewhere = replace(config.backbone, hub_repo="maker/backbone")
    split_config = replace(config, backbone=elsewhere, weights_sha256=None)
    (directory / "config.json").write_text(config_to_json(split_config))
    heads = {key: value for key, value in tensors.items() if key.startswith(HEADS_PREFIX)}
    save_file(heads, directory / WEIGHTS_FILE)
    return directory


def fused(detector: Detector) -> list[float]:
    bank = detector.build_bank(NORMALS, "candle")
    return [score.fused for score in detector.score(QUERIES, bank)]


def cached_files(tmp_path: Path) -> list[str]:
    """What lies in the cache's blobs, complete or not."""
    return sorted(path.name for path in (tmp_path / "cache").glob("models--*/blobs/*"))


def test_repository_in_our_format_scores_as_the_directory(
    published: Repo, golden_detector: Detector
) -> None:
    assert fused(load_detector("someone/golden", "cpu")) == fused(golden_detector)


def test_backbone_of_another_repository_is_fetched_once_with_progress(
    hub: Hub, split: Path, golden_detector: Detector
) -> None:
    seen: list[tuple[int, int | None]] = []
    first = load_detector(split, "cpu", on_progress=lambda *step: seen.append(step))
    assert fused(first) == fused(golden_detector)
    size = len(hub.repos["maker/backbone"].files[BACKBONE_FILE])
    assert seen[-1] == (size, size)
    assert [step[0] for step in seen] == sorted(step[0] for step in seen)
    load_detector(split, "cpu")
    assert len(hub.asked("GET", "/large/")) == 1


def test_cache_serves_when_the_hub_is_gone(
    hub: Hub, split: Path, golden_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_detector(split, "cpu")
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    assert fused(load_detector(split, "cpu")) == fused(golden_detector)


def test_files_are_of_one_commit_though_the_repository_moves_on(
    hub: Hub, published: Repo, tmp_path: Path
) -> None:
    load_detector("someone/golden", "cpu")
    weights = hub.asked("HEAD", WEIGHTS_FILE)
    assert weights and all(f"/resolve/{published.commit}/" in r.path for r in weights)
    published.commit = "2" * 40
    old = load_detector("someone/golden", "cpu", revision="1" * 40)  # From the cache.
    assert old.name == load_detector("someone/golden", "cpu").name
    assert len(list((tmp_path / "cache").glob("models--*/snapshots/*"))) == 2


def test_transfer_that_breaks_off_is_resumed(
    hub: Hub, published: Repo, golden_detector: Detector
) -> None:
    published.break_after, published.breaks = {WEIGHTS_FILE: 12_000_000}, 1
    assert fused(load_detector("someone/golden", "cpu")) == fused(golden_detector)
    whole, rest = (request.range for request in hub.asked("GET", "/large/"))
    assert whole is None and rest == f"bytes={constants.DOWNLOAD_CHUNK_SIZE}-"


def test_transfer_that_keeps_breaking_leaves_nothing_and_works_next_time(
    published: Repo, golden_detector: Detector, tmp_path: Path
) -> None:
    published.break_after, published.breaks = {WEIGHTS_FILE: 100_000}, 1000
    with pytest.raises(ModelError, match="broke off and nothing was kept; try again"):
        load_detector("someone/golden", "cpu")
    assert len(cached_files(tmp_path)) == 1  # config.json
    published.breaks = 0
    assert fused(load_detector("someone/golden", "cpu")) == fused(golden_detector)


def test_content_damaged_on_the_way_is_thrown_away(
    published: Repo, golden_detector: Detector, tmp_path: Path
) -> None:
    published.damaged = {WEIGHTS_FILE}
    with pytest.raises(ModelError, match="arrived damaged and was thrown away; try again"):
        load_detector("someone/golden", "cpu")
    assert len(cached_files(tmp_path)) == 1
    published.damaged = set()
    assert fused(load_detector("someone/golden", "cpu")) == fused(golden_detector)


def test_file_damaged_in_the_cache_is_fetched_anew(
    hub: Hub, split: Path, tmp_path: Path, golden_detector: Detector
) -> None:
    load_detector(split, "cpu")
    name = sha256(hub.repos["maker/backbone"].files[BACKBONE_FILE])
    blob = next((tmp_path / "cache").glob(f"models--*/blobs/{name}"))
    blob.write_bytes(blob.read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged"):
        load_detector(split, "cpu")
    assert fused(load_detector(split, "cpu")) == fused(golden_detector)


def test_full_disk(
    published: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden_detector: Detector
) -> None:
    def fill(url, temp_file, **options):
        temp_file.write(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_get", fill)
        with pytest.raises(ModelError, match="disk is full.*move HF_HOME"):
            load_detector("someone/golden", "cpu")
    assert cached_files(tmp_path) == []
    assert fused(load_detector("someone/golden", "cpu")) == fused(golden_detector)


def test_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", gone)
    template = gone + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(ModelError, match="127.0.0.1:9 cannot be reached; check the connection"):
        load_detector("someone/golden", "cpu")


def test_out_of_reach_the_way_by_hand_is_told(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as caught:
        load_detector(split, "cpu")
    way = f"or fetch maker/backbone/{BACKBONE_FILE} by other means, and name the file with --model."
    assert str(caught.value).endswith(f"unset it; {way}")
    with pytest.raises(ModelError, match="or fetch the files of maker/model .* into a folder, and"):
        load_detector("maker/model", "cpu")


def test_offline_mode(published: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids a download"):
        load_detector("someone/golden", "cpu")


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"gated": True}, "is gated; accept its terms at"),
        ({"token": "secret"}, "no model someone/golden that you may read"),
        ({"status": 503}, r"error \(503\); try again later"),
        ({"status": 403}, "set HF_TOKEN to one with access"),
    ],
)
def test_refusals(hub: Hub, published: Repo, behaviour: dict, message: str) -> None:
    hub.repos["someone/golden"] = replace(published, **behaviour)
    with pytest.raises(ModelError, match=message) as caught:
        load_detector("someone/golden", "cpu")
    assert "\n" not in str(caught.value)


def test_private_repository_opens_with_the_token(
    hub: Hub, published: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    load_detector("someone/golden", "cpu")
    assert {r.authorization for r in hub.asked("HEAD", "/resolve/")} == {"Bearer secret"}


@pytest.mark.parametrize("token", [None, "mine"])
def test_missing_repository(hub: Hub, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ModelError, match="no model no/body that you may read; check the name"):
        load_detector("no/body", "cpu")


def test_missing_revision(published: Repo) -> None:
    with pytest.raises(ModelError, match="has no revision 'v9'; check the branch"):
        load_detector("someone/golden", "cpu", revision="v9")


def test_models_on_this_computer_have_no_revisions(tmp_path: Path) -> None:
    for name in ("inctrl-lite", str(tmp_path)):
        with pytest.raises(ModelError, match=f"'{name}' lies on this computer.*'v9'; leave it"):
            load_detector(name, "cpu", revision="v9")


def test_repository_that_holds_no_model(hub: Hub) -> None:
    hub.repos["someone/text"] = Repo({"README.md": b"hello"})
    with pytest.raises(ModelError, match="not a model that this program reads"):
        load_detector("someone/text", "cpu")


def test_pickle_instead_of_safetensors(hub: Hub, split: Path) -> None:
    hub.repos["maker/backbone"] = Repo({"open_clip_pytorch_model.bin": b"PK\x03\x04"})
    with pytest.raises(ModelError, match="open_clip_pytorch_model.bin is a pickle.*refused"):
        load_detector(split, "cpu")
    assert not hub.asked("GET", "/large/")


def test_pickle_under_the_name_of_safetensors(hub: Hub, split: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle")
    hub.repos["maker/backbone"] = Repo({BACKBONE_FILE: (tmp_path / "pickle").read_bytes()})
    with pytest.raises(ModelError, match="is a pickle, which could run code, and is refused"):
        load_detector(split, "cpu")


def test_configuration_cannot_ask_for_a_pickle(hub: Hub, split: Path) -> None:
    config = read_config(split)
    asking = replace(config, backbone=replace(config.backbone, hub_file="model.bin"))
    (split / "config.json").write_text(config_to_json(asking))
    with pytest.raises(ModelError, match="is a pickle"):
        load_detector(split, "cpu")
    assert hub.requests == []


def test_backbone_of_another_architecture(hub: Hub, split: Path) -> None:
    hub.repos["maker/backbone"].files[BACKBONE_FILE] = save({"visual.proj": torch.zeros(3, 3)})
    with pytest.raises(ModelError, match="maker/backbone lacks"):
        load_detector(split, "cpu")


def test_heads_of_another_repository(
    hub: Hub,
    published: Repo,
    split: Path,
    golden_detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    config = replace(read_config(split), heads=HeadsConfig())
    (bare / "config.json").write_text(config_to_json(config))
    assert load_detector(bare, "cpu").fusion == "training-free"
    named = load_detector(bare, "cpu", heads="someone/golden")
    assert named.fusion == "trained"
    assert named.name.endswith(" with the heads of golden")
    told = MeasuredModel.of(named)
    digest = read_config(fetch_file("someone/golden", "config.json").parent).weights_sha256
    revision = named.config.backbone.hub_revision
    assert len(revision) == 40 and told.fusion == "trained reference fusion"
    repo = named.config.backbone.hub_repo
    assert told.weights == f"{repo}@{revision} + heads sha256 {digest}"
    assert fused(named) == fused(golden_detector)
    monkeypatch.setenv("INCTRL_HEADS", "someone/golden")
    assert fused(load_detector(bare, "cpu")) == fused(golden_detector)
    monkeypatch.setenv("INCTRL_PRECISION", "bfloat16")
    alone = load_detector(bare, "cpu", use_environment=False)
    assert alone.fusion == "training-free" and alone.backbone.dtype == torch.float32


def test_heads_in_the_environment_leave_the_embedded_model_alone(
    golden_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = load_detector("inctrl-lite", "cpu").config
    monkeypatch.setenv("INCTRL_HEADS", str(golden_model))
    assert load_detector("inctrl-lite", "cpu").config == own
    assert own.heads.form == "gated"


def test_heads_that_do_not_fit(hub: Hub, published: Repo, split: Path) -> None:
    config = json.loads(published.files["config.json"])
    config["backbone"]["grid"] = 7
    published.files["config.json"] = json.dumps(config).encode()
    with pytest.raises(ModelError, match="made for another backbone"):
        load_detector(split, "cpu", heads="someone/golden")


def test_unknown_name_lists_the_embedded_models(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text("{}")
    monkeypatch.setattr(loading, "ASSETS", tmp_path)
    with pytest.raises(ModelError, match="embedded models are one"):
        load_detector("other", "cpu")


def test_push_and_load_again(
    hub: Hub, golden_model: Path, golden_detector: Detector, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    hub.write_token = "writer"
    monkeypatch.setenv("HF_TOKEN", "writer")
    assert main(["push", str(golden_model), "me/mine", "--private"]) == 0
    assert f"{hub.url}/me/mine/commit/" in capsys.readouterr().out
    repo = hub.repos["me/mine"]
    assert repo.private and sorted(repo.files) == ["README.md", "config.json", WEIGHTS_FILE]
    card = repo.files["README.md"].decode()
    assert card.startswith("---\n") and 'load_detector("me/mine")' in card
    assert "converted_from" in card  # The provenance record.
    assert fused(load_detector("me/mine", "cpu")) == fused(golden_detector)


def test_push_without_access(hub: Hub, golden_model: Path, capsys) -> None:
    hub.write_token = "writer"
    assert main(["push", str(golden_model), "me/mine"]) == 1
    assert "set HF_TOKEN to one with access" in capsys.readouterr().err
    assert hub.repos == {}


def test_push_of_a_broken_model_sends_nothing(hub: Hub, split: Path, capsys) -> None:
    (split / WEIGHTS_FILE).write_bytes(b"short")
    assert main(["push", str(split), "me/mine"]) == 1
    assert "damaged" in capsys.readouterr().err
    assert hub.asked("POST", "") == []


@pytest.fixture
def embedded(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The split model's backbone under an embedded name."""
    monkeypatch.setattr(loading, "ASSETS", tmp_path)
    return split.name


def test_convert_keeps_heads_only_where_the_backbone_is_the_hubs(
    embedded: str, golden_checkpoint: Path, golden_detector: Detector, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(golden_checkpoint), str(out), "--backbone", embedded]) == 0
    assert "heads only" in capsys.readouterr().out
    assert all(key.startswith(HEADS_PREFIX) for key in load_file(out / WEIGHTS_FILE))
    assert fused(load_detector(out, "cpu")) == fused(golden_detector)


def test_converted_heads_keep_to_the_commit_they_were_compared_with(
    hub: Hub,
    embedded: str,
    golden_checkpoint: Path,
    golden_detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(golden_checkpoint), str(out), "--backbone", embedded]) == 0
    repo = hub.repos["maker/backbone"]
    assert read_config(out).backbone.hub_revision == repo.commit
    tensors = load_file_bytes(repo.files[BACKBONE_FILE], tmp_path)
    repo.files[BACKBONE_FILE] = save({key: value + 1 for key, value in tensors.items()})
    repo.commit = "2" * 40
    assert fused(load_detector(out, "cpu")) == fused(golden_detector)  # From the cache.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    with pytest.raises(ModelError, match=f"no revision '{'1' * 40}'"):
        load_detector(out, "cpu")


@pytest.mark.parametrize("reachable", [True, False])
def test_convert_keeps_the_backbone_where_it_differs_or_cannot_be_compared(
    hub: Hub,
    embedded: str,
    golden_checkpoint: Path,
    golden_detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
    reachable: bool,
) -> None:
    repo = hub.repos["maker/backbone"]
    tensors = load_file_bytes(repo.files[BACKBONE_FILE], tmp_path)
    tensors["visual.proj"][0, 0] += 1e-3
    repo.files[BACKBONE_FILE] = save(tensors)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not reachable)
    out = tmp_path / "out"
    assert main(["convert", str(golden_checkpoint), str(out), "--backbone", embedded]) == 0
    said = capsys.readouterr().out
    assert ("differs from that of maker/backbone" in said) == reachable
    assert ("HF_HUB_OFFLINE" in said) == (not reachable)
    assert fused(load_detector(out, "cpu")) == fused(golden_detector)


def load_file_bytes(content: bytes, tmp_path: Path) -> dict[str, torch.Tensor]:
    path = tmp_path / "tensors"
    path.write_bytes(content)
    return {key: value.clone() for key, value in load_file(path).items()}


@pytest.mark.slow
def test_environment_variables_work_as_everywhere(
    hub: Hub, published: Repo, tmp_path: Path
) -> None:
    published.token = "secret"
    command = [sys.executable, "-m", "inctrl_core", "score", "--model", "someone/golden"]
    command += ["--device", "cpu", "--normal", str(NORMALS[0]), "--query", str(QUERIES[0])]
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment = os.environ | home | {"HF_TOKEN": "secret", "NO_PROXY": "127.0.0.1"}

    def score(**more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, "--json"],
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=300,
        )

    offline = score(HF_HUB_OFFLINE="1")
    assert offline.returncode == 1 and "HF_HUB_OFFLINE" in offline.stderr
    first = score()
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "home" / "hub" / "models--someone--golden").is_dir()
    count = len(hub.requests)
    again = score(HF_HUB_OFFLINE="1")
    assert again.stdout == first.stdout
    assert len(hub.requests) == count


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "a/../../x.safetensors"])
def test_a_file_outside_the_repository(published: Repo, name: str) -> None:
    with pytest.raises(ModelError, match="not a file that a repository can have"):
        fetch_file("someone/golden", name)
