"""models.config: new, merged, refused."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from sedona_tf.errors import UserError
from sedona_tf.export.models_config import add_model, read_config, write_config

OTHERS = """
model_config_list {
  config { name: "a" base_path: "gs://bucket/a" model_platform: "tensorflow" }
  config {
    name: "b" base_path: "/old/b" model_type: TENSORFLOW
    model_version_policy { specific { versions: 2 versions: 3 } }
  }
}
"""


def test_a_new_list(tmp_path):
    path = tmp_path / "models.config"
    write_config(path, add_model(read_config(path), "a", "/models/a"))
    expected = ModelServerConfig()
    expected.model_config_list.config.add(
        name="a", base_path="/models/a", model_platform="tensorflow"
    )
    assert text_format.Parse(path.read_text(), ModelServerConfig()) == expected


def test_others_are_kept_and_an_entry_keeps_its_policy(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(OTHERS)
    before = read_config(path)
    a, b, c = add_model(
        add_model(before, "b", "/models/b"), "c", "/models/c"
    ).model_config_list.config
    assert a == before.model_config_list.config[0] and c.name == "c"
    assert (b.base_path, b.model_platform, b.model_type) == ("/models/b", "tensorflow", 0)
    assert list(b.model_version_policy.specific.versions) == [2, 3]
    assert before == read_config(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model_config_list {", "no list of models"),
        (b"models: 3", "no list of models"),
        (b"\xff\xfe", "no list of models"),
        (b'custom_model_config { type_url: "x" }', "custom_model_config"),
    ],
)
def test_refuses_what_is_no_list_of_models(content, message, tmp_path):
    path = tmp_path / "models.config"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_config(path)


def test_refuses_two_entries_of_a_name_and_a_folder(tmp_path):
    config = ModelServerConfig()
    for _ in range(2):
        config.model_config_list.config.add(name="a")
    with pytest.raises(UserError, match="2 entries named 'a'"):
        add_model(config, "a", "/models/a")
    with pytest.raises(UserError, match="cannot read"):
        read_config(tmp_path)
