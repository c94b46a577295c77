"""Which checkpoint a name means: the released model, a folder, a file, a hub id."""

import huggingface_hub
import pytest
from evaluation_setup import write_checkpoint
from huggingface_hub.errors import LocalEntryNotFoundError

from extracter.errors import UserError
from extracter.models import locate
from extracter.models.locate import RELEASED, model_folder, open_model


def test_without_a_name_the_released_model_serves_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_folder(None) == RELEASED
    assert not open_model().training


def test_a_folder_and_a_file_in_it_mean_the_same(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    assert model_folder(checkpoint) == model_folder(str(checkpoint / "model.safetensors")) == checkpoint


@pytest.mark.parametrize(("name", "message"), [
    ("EXTRACTER.pt", r"EXTRACTER.pt: not a checkpoint folder; convert it with `extracter convert EXTRACTER.pt"),
    ("owner/EXTRACTER.pth", "extracter convert"),
    ("nowhere", "nowhere: no such model"),
    ("no/such/folder", "no/such/folder: no such model"),
    (".", "not a model; name a folder with config.json"),
])  # fmt: skip
def test_names_that_mean_no_model(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        model_folder(name)


@pytest.mark.parametrize(("name", "revision"), [("owner/model", None), ("owner/model@v1.0", "v1.0")])
def test_a_hub_id_is_downloaded(tmp_path, monkeypatch, name, revision):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    calls = []

    def download(repository, **options):
        calls.append((repository, options["revision"]))
        assert {"config.json", "model.safetensors"} <= set(options["allow_patterns"])
        return str(checkpoint)

    monkeypatch.setattr(locate, "snapshot_download", download)
    assert open_model(name).search.kernel == 6
    assert calls == [("owner/model", revision)]


def test_a_local_folder_goes_before_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locate, "snapshot_download", None)
    write_checkpoint(tmp_path / "owner" / "model")
    assert model_folder("owner/model").samefile(tmp_path / "owner" / "model")


def test_a_hub_that_cannot_be_reached_and_a_repository_without_a_model(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("cannot find the files on the hub\nsecond line")

    monkeypatch.setattr(locate, "snapshot_download", unreachable)
    with pytest.raises(
        UserError, match=r"^owner/model: no such folder here, .* \(cannot find the files on the hub\); check"
    ):
        model_folder("owner/model")
    monkeypatch.setattr(locate, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(UserError, match=r"holds no config\.json"):
        model_folder("owner/model")


def test_the_hubs_own_check_of_names_gives_a_sentence(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="Hugging Face hub"):
        model_folder("owner/-model")
