"""What all commands share: flags in, one line of error, exit code out."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import os
import re
import shlex
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TextIO

from absl import app, flags

import sedona_tf
from sedona_tf.command_line.standard_streams import hold_notices, make_writable
from sedona_tf.environment.kernels import choose_kernels
from sedona_tf.errors import Interrupted, UserError, first_line, operation_failure, unknown_name
from sedona_tf.shipped import recipe_file, split_variant

__all__ = ["help_text", "page_of", "progress", "run", "start_tensorflow"]

INDENT = " " * 6

flags.DEFINE_bool("quiet", False, "print the result and errors only.")


def run(
    main: Callable[[], int | None],
    usage: str | None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> NoReturn:
    """Parses the flags, runs a command and ends the process.

    What the user can put right ends in one line on stderr, `error: ...`, and exit code 2: a
    `UserError`, a wrong flag, an `OSError` about a file, too little memory, and whatever goes
    wrong while a recipe (a flag of `ml_collections.config_flags`) is read. Anything else is a
    fault of the program and keeps its traceback. Ctrl-C gives 130; a command that handles signals
    itself raises `Interrupted`, whose line and exit code are used.

    Args:
        main: the command; reads `absl.flags.FLAGS` and returns an exit code or None for 0.
            Its module (or the caller's `__main__`) is the one whose flags `--help` shows.
        usage: the module's docstring, with examples; None under `python -OO`.
        groups: heading to names of flags, for `--help`; the others go under "Flags".

    Raises:
        SystemExit: always.
    """
    make_writable()
    if any(re.fullmatch(r"--?(help|helpshort|helpfull|h)|-\?", arg) for arg in _flag_arguments()):
        print(help_text(main, usage, groups))
        sys.exit(0)
    if "--version" in _flag_arguments() and "version" not in flags.FLAGS:
        print(f"sedona_tf {sedona_tf.__version__}")
        sys.exit(0)
    os.environ.pop("MPLBACKEND", None)  # a notebook's may not be there; commands show no windows
    try:
        app.run(lambda _: _flushed(main), flags_parser=_parse)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"'{error.filename}': " if error.filename is not None else ""
        _fail(f"{where}{error.strerror or error}")
    except MemoryError as error:
        _fail(f"out of memory: {first_line(error)}")
    except Exception as error:
        tensorflow = sys.modules.get("tensorflow")
        if not tensorflow or not isinstance(error, tensorflow.errors.ResourceExhaustedError):
            raise
        reason = operation_failure(error.message)
        _fail(f"out of memory: {reason} A smaller batch or network may fit.")
    raise AssertionError("app.run ends the process")


def help_text(
    main: Callable[[], int | None],
    usage: str | None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The text of `--help`; arguments as for `run`."""
    module = sys.argv[0] if main.__module__ == "__main__" else main.__module__
    own = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(module)}
    groups = {heading: list(names) for heading, names in (groups or {}).items()}
    grouped = {name for names in groups.values() for name in names}
    own["quiet"] = flags.FLAGS["quiet"]
    groups["Flags"] = [name for name in own if name not in grouped]
    lines = [(usage or f"Usage: {os.path.basename(sys.argv[0])} FLAGS").strip()]
    for heading, names in groups.items():
        lines += ["", f"{heading}:"] if names else []
        for name in names:
            flag = own[name]
            if _is_required(flag):
                default = "required"
            else:
                default = f"default: {flag.default_as_str or 'none'}"
            words = f"{flag.help or ''} ({default})".strip()
            lines.append(f"  --{'[no]' if flag.boolean else ''}{name}")
            lines += textwrap.wrap(words, 92, initial_indent=INDENT, subsequent_indent=INDENT)
            if _is_recipe(flag):
                lines += [f"  --{name}.FIELD", INDENT + "overrides a field of the file."]
    return "\n".join(lines)


def start_tensorflow(devices: int = 1) -> None:
    """Imports TensorFlow, with the right kernels and without its notices.

    TensorFlow's errors are shown if there is an NVIDIA driver, since they tell why the GPU is not
    used. Without a driver they only say that there is none. `TF_CPP_MIN_LOG_LEVEL=0` shows all.

    Args:
        devices: logical CPU devices that share the cores.
    """
    choose_kernels(devices)
    print("starting TensorFlow", flush=True)
    driver = any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg")))
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if driver else "3")
    with contextlib.nullcontext() if level in ("0", "1") else hold_notices():
        importlib.import_module(
            "sedona_tf.environment.keras_backend"
        )  # TensorFlow too imports Keras


@contextlib.contextmanager
def progress(to: TextIO | None = None) -> Iterator[None]:
    """Treats the output of the `with` block as progress; `--quiet` leaves it out.

    Args:
        to: where the output goes without `--quiet`; standard output if None.
    """
    with contextlib.ExitStack() as stack:
        if flags.FLAGS.quiet:
            to = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        if to is not None:
            stack.enter_context(contextlib.redirect_stdout(to))
        yield


def page_of(workdir: str | os.PathLike[str]) -> str:
    """The command that makes a finished run's page, to be copied into a shell."""
    return shlex.join(["python", "-m", "sedona_tf.report", "--workdir", str(workdir)])


def _fail(message: str) -> NoReturn:
    print("error:", " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def _flushed(main: Callable[[], int | None]) -> int | None:
    """Runs the command and makes trouble with its output come up while it can be told."""
    try:
        code = main()
    except app.UsageError as error:
        raise UserError(str(error)) from error
    sys.stdout.flush()
    return code


def _flag_arguments() -> list[str]:
    """The arguments up to a lone `--`."""
    arguments = sys.argv[1:]
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except flags.CantOpenFlagFileError as error:
        raise UserError(f"--flagfile: {error.__context__ or error}") from error
    except Exception as error:  # recipes are programs: anything can come out of one
        problems = [_recipe_problem(flag) for flag in _recipe_flags()]
        raise UserError(next(filter(None, problems), None) or _flag_problem(error)) from error
    if rest[1:]:
        raise UserError(f"unexpected argument '{rest[1]}': only flags are taken; see --help.")
    return rest


def _flag_problem(error: Exception) -> str:
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, flags.UnrecognizedFlagError):
        name, _, field = error.flagname.partition(".")
        if field and name in flags.FLAGS and _is_recipe(flags.FLAGS[name]):
            return f"--{error.flagname} needs --{name}=FILE before it."
        near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), n=1)
        return f"unknown flag --{error.flagname}." + (f" Did you mean --{near[0]}?" if near else "")
    required = re.search(r"Flag --(\S+) must have a value other than None", message)
    return f"flag --{required[1]} is required; see --help." if required else message


def _is_required(flag: flags.Flag) -> bool:
    return any("other than None" in str(check.message) for check in flag.validators)


def _is_recipe(flag: flags.Flag) -> bool:
    """Whether the flag reads an `ml_collections` file; false if nothing imported the package."""
    config_flags = sys.modules.get("ml_collections.config_flags.config_flags")
    return config_flags is not None and config_flags.is_config_flag(flag)


def _recipe_flags() -> list[Any]:
    return [flag for flag in map(flags.FLAGS.__getitem__, flags.FLAGS) if _is_recipe(flag)]


def _recipe_problem(flag: Any) -> str | None:
    """Reads the recipe once more, to say better than the parser what is wrong with it."""
    arguments = flags.FLAGS.read_flags_from_files(_flag_arguments(), force_gnu=False)
    paths: list[Any] = [flag.default] if isinstance(flag.default, str) else []
    for argument, following in zip(arguments, [*arguments[1:], None], strict=False):
        match = re.fullmatch(rf"--?{flag.name}(=.*)?", argument, re.DOTALL)
        if match:
            paths.append(match[1][1:] if match[1] else following)
    if not paths or paths[-1] is None:
        return None
    path = paths[-1]
    try:
        path = recipe_file(path)
        config = flag.parser.parse(path)
    except UserError as error:
        return str(error)
    except Exception as error:
        return _failure(path, error)
    known = _fields(config)
    for argument in arguments:
        match = re.match(rf"--?(?:no)?{flag.name}\.([\w.]+)(?:=|$)", argument)
        if match and match[1] not in known:
            return unknown_name("recipe field", match[1], known)
    return None


def _fields(config: Any, prefix: str = "") -> list[str]:
    """The dotted paths of a recipe's fields, inner ones included."""
    if not hasattr(config, "items"):
        return []
    return [
        path
        for name, value in config.items()
        for path in (f"{prefix}{name}", *_fields(value, f"{prefix}{name}."))
    ]


def _failure(path: str, error: BaseException) -> str:
    """Words what went wrong inside a recipe, with the line if there is one."""
    file, _ = split_variant(path)
    if not os.path.isfile(file):
        return f"recipe file '{file}' does not exist."
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        frames = traceback.extract_tb(link.__traceback__)
        lines = [f.lineno for f in frames if os.path.realpath(f.filename) == os.path.realpath(file)]
        if isinstance(link, SyntaxError) and link.filename:
            lines.append(link.lineno)
        if lines:
            words = getattr(link, "msg", None) or link
            return f"recipe '{path}' failed at line {lines[-1]}: {type(link).__name__}: {words}"
    return f"recipe '{path}' cannot be used: {chain[-1]}"
