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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn, TextIO

from absl import app, flags

import sedona_tf
from sedona_tf.command_line.log_lines import show_log_lines
from sedona_tf.command_line.recipe_flag import is_recipe, recipe_problem
from sedona_tf.command_line.standard_streams import drop_native_log_lines, make_writable
from sedona_tf.environment.kernels import choose_kernels
from sedona_tf.errors import Interrupted, UserError, first_line, operation_failure

__all__ = ["help_text", "page_of", "print_and_exit", "progress", "run", "start_tensorflow"]

HELP_INDENT = " " * 6

flags.DEFINE_bool("quiet", False, "print the result and errors only.")


def run(
    main: Callable[[], int | None],
    usage: str | None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> NoReturn:
    """Parses the flags, runs a command and ends the process.

    What the user can put right ends in one line on stderr, `error: ...`, and exit code 2: a
    `UserError`, a wrong flag, an `OSError` about a file, too little memory, and whatever goes
    wrong while a recipe is read. Anything else is a fault of the program and keeps its traceback.
    Ctrl-C gives 130. A command that handles signals itself raises `Interrupted`, whose line and
    exit code are used. What the library logs is printed, see `show_log_lines`.

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
        print_and_exit(help_text(main, usage, groups))
    if "--version" in _flag_arguments() and "version" not in flags.FLAGS:
        print_and_exit(f"sedona_tf {sedona_tf.__version__}")
    os.environ.pop("MPLBACKEND", None)  # a notebook's may not be there; commands show no windows
    try:
        app.run(lambda _: _flushed(main), flags_parser=_parse)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        _leave_closed_pipe()
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


def print_and_exit(text: str) -> NoReturn:
    """Prints a text and ends the process, quietly too where nobody reads on.

    Raises:
        SystemExit: always.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _leave_closed_pipe()
    sys.exit(0)


def _leave_closed_pipe() -> NoReturn:
    """Ends the process as a shell does whose output's reader, such as `head`, has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


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
            text = f"{flag.help or ''} ({default})".strip()
            lines.append(f"  --{'[no]' if flag.boolean else ''}{name}")
            lines += textwrap.wrap(
                text, 92, initial_indent=HELP_INDENT, subsequent_indent=HELP_INDENT
            )
            if is_recipe(flag):
                lines += [f"  --{name}.FIELD", HELP_INDENT + "overrides a field of the file."]
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
    with contextlib.nullcontext() if level in ("0", "1") else drop_native_log_lines():
        importlib.import_module("sedona_tf.environment.keras_backend")  # imports TensorFlow, too


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
    show_log_lines()
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
        raise UserError(recipe_problem(_flag_arguments()) or _flag_problem(error)) from error
    if rest[1:]:
        raise UserError(f"unexpected argument '{rest[1]}': only flags are taken; see --help.")
    return rest


def _flag_problem(error: Exception) -> str:
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, flags.UnrecognizedFlagError):
        name, _, field = error.flagname.partition(".")
        if field and name in flags.FLAGS and is_recipe(flags.FLAGS[name]):
            return f"--{error.flagname} needs --{name}=FILE before it."
        near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), n=1)
        return f"unknown flag --{error.flagname}." + (f" Did you mean --{near[0]}?" if near else "")
    required = re.search(r"Flag --(\S+) must have a value other than None", message)
    return f"flag --{required[1]} is required; see --help." if required else message


def _is_required(flag: flags.Flag) -> bool:
    return any("other than None" in str(check.message) for check in flag.validators)
