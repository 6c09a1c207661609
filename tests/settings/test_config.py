"""The settings: where they come from, whose key is whose, and what is said of mistakes."""

from pathlib import Path

import pytest

from loam.config import parse
from loam.core.errors import SettingsError
from loam.kinds import check, configured


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_key_in_the_environment_is_enough(in_folder: Path) -> None:
    settings = configured({"GROQ_API_KEY": "k"})
    assert settings.providers["groq"].api_key == "k"
    check(settings)


def test_a_section_without_a_key_takes_its_kinds_key_at_its_kinds_address_only(in_folder: Path) -> None:
    (in_folder / "loam.toml").write_text(
        '[providers.openai]\nmodels = ["gpt-5-mini"]\n'
        '[providers.mine]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n'
    )
    settings = configured({"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "a"})
    assert settings.providers["openai"].api_key == "k"
    assert settings.providers["mine"].api_key == "", "a key never goes to another address than its own"
    assert settings.providers["anthropic"].api_key == "a"


def test_variables_stand_above_the_file(in_folder: Path) -> None:
    (in_folder / "loam.toml").write_text("[server]\nport = 1\n[cache]\nenabled = false\n")
    settings = configured({"LOAM_SERVER__PORT": "2", "LOAM_CACHE__ENABLED": "true", "LOAM_DATA": "there"})
    assert (settings.server.port, settings.cache.enabled, settings.data) == (2, True, "there")
    assert configured({"LOAM_PORT": "3"}).server.port == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprot = 1\n", r"\[server\] has no setting 'prot'; did you mean 'port'"),
        ("[server]\nport = 'x'\n", "server.port"),
        ("[providers.p]\napi_key = 'env:NOWHERE'\n", "NOWHERE, which is not set"),
        ("[providers.p]\nkind = 'nobody'\n", "there are: openai"),
        ("[providers.loam]\n", "name of the reader"),
        ("[routes.r]\nchain = ['a/b']\n", r"\[routes.r\] names 'a/b'"),
        ("[agents.a]\nmodel = 'm'\n[agents.a.tools.'pay back']\nkind = 'python'\nfunction = 'a:b'\n", "not 'pay back'"),
        ("[agents.a]\nmodel = 'agent:b'\n", r"\[agents.a\] asks agent:b"),
        ("a = [", "not valid TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place(in_folder: Path, text: str, said: str) -> None:
    (in_folder / "loam.toml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        check(configured({}))


def test_a_file_that_was_named_must_be_there(in_folder: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        configured({"LOAM_CONFIG": "nowhere.toml"})


def test_a_variable_inside_a_plain_setting_is_a_mistake(in_folder: Path) -> None:
    (in_folder / "loam.toml").write_text("data = 'x'\n")
    with pytest.raises(SettingsError, match="not a section"):
        configured({"LOAM_DATA__X": "1"})


def test_plain_data_makes_settings() -> None:
    assert parse({"server": {"port": 0}}).server.port == 0


def test_an_address_for_documents_that_is_none_is_told_unseen(in_folder: Path) -> None:
    check(parse({"grounding": {"store": {"url": "postgresql://loam:hush@db/loam"}}}))
    with pytest.raises(SettingsError, match=r"grounding\.store\.url is no address") as caught:
        check(parse({"grounding": {"store": {"url": "postgresql://loam:hu@sh@db/loam"}}}))
    assert "sh@db" not in str(caught.value)
