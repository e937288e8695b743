"""models.config: the list of models that TensorFlow Serving is started with."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format

from sedona_tf.errors import UserError, first_line
from sedona_tf.export.protos import ModelServerConfig
from sedona_tf.files import atomic_write

__all__ = ["add_model", "read_config", "write_config"]


def read_config(path: Path) -> ModelServerConfig:
    """Reads the file; an empty list if there is none.

    Raises:
        UserError: if it cannot be read, or is no list of models.
    """
    config = ModelServerConfig()
    try:
        text_format.Parse(path.read_bytes() if path.exists() else b"", config)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no list of models: {first_line(error)}") from error
    if config.HasField("custom_model_config"):
        raise UserError(f"{path} holds a custom_model_config; a list of models is needed.")
    return config


def add_model(config: ModelServerConfig, name: str, base_path: str) -> ModelServerConfig:
    """A copy with the model's entry; one that is there keeps its other fields, its policy say.

    Args:
        config: the list.
        name: of the model.
        base_path: folder of its versions as the server sees it, absolute.

    Raises:
        UserError: if there are several entries of that name.
    """
    result = ModelServerConfig()
    result.CopyFrom(config)
    models = result.model_config_list.config
    entries = [entry for entry in models if entry.name == name] or [models.add()]
    if len(entries) > 1:
        raise UserError(f"models.config has {len(entries)} entries named '{name}'; leave one.")
    entries[0].name, entries[0].base_path = name, base_path
    entries[0].ClearField("model_type")  # the old way to say the platform
    entries[0].model_platform = "tensorflow"
    return result


def write_config(path: Path, config: ModelServerConfig) -> None:
    """Writes the file, all or nothing.

    Raises:
        UserError: if it cannot be written.
    """
    with atomic_write(path) as file:
        file.write(text_format.MessageToString(config).encode())
