"""Mutation testing: small faults are put into a package one at a time; do its tests notice?

Usage: python benchmarks/mutation.py --package plans [--sample 200] [--seed 0] [--jobs 1]
       [--output DIR] [--fork] [--again]

Needs cosmic-ray (`pip install -e ".[mutation]"`), whose operators make the mutants: another
operator, comparison or number, a negated or swapped condition, a loop that does not run, and so on.
A seeded sample of all mutants of the package (all of them with --sample 0) runs against the tests
that matter for the mutated module, the quickest first, until one fails. All of it happens in a copy
of the checkout, so the working tree stays as it is. A mutant that takes more than three times as
long as the unchanged module, and ten seconds, counts as killed.

Not judged, since no test could: mutants that differ from the original in nothing but annotations,
docstrings, `__all__` or what stands under `if TYPE_CHECKING`, and those that are not Python.

Every verdict is one line of DIR/PACKAGE.jsonl. A run goes on where the last one stopped; --again
tests those again that had survived, after tests were added. --fork imports TensorFlow once and
forks for every mutant, before anything has been computed: some six seconds less a mutant, and the
same verdicts for 24 of 24 mutants of plans; not compared for the others. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import importlib
import json
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLANS = ("costs", "fields", "document", "decode", "cost_aware", "simulator", "decoupling", "plan")
"""Modules of plans, the one with the quickest tests first; none of them needs TensorFlow."""


def _tests(package: str, *names: str) -> list[str]:
    return [f"tests/{package}/test_{name}.py" for name in names]


def _some(file: str, *names: str) -> list[str]:
    return [f"tests/{file}.py::test_{name}" for name in names]


HYPERGRADIENT = _tests("bilevel", "hypergradient")
MODEL = [
    *_some(
        "decoupled/test_model",
        "a_step_is_each_blocks_own_gradient",
        "refusals",
        "callbacks_set_every_blocks_learning_rate",
        "on_one_device_a_lockstep_step_learns_block_by_block",
        "blocks_and_their_optimizers_live_on_their_devices",
        "blocks_of_a_pipelined_step_do_not_wait_for_each_other",
        "fit_with_ragged_batches_and_validation_ends_alike",
        "save_and_load_go_on_alike",
        "one_block_is_plain_keras_bit_for_bit",
        "mixed_precision",
    ),
    *_tests("decoupled", "properties"),
]
TESTS: dict[str, dict[str, list[str]]] = {
    "plans": {
        **{name: _tests("plans", name, *(n for n in PLANS if n != name)) for name in PLANS},
        "baselines": _tests("plans", "baselines"),
    },
    "bilevel": {
        **dict.fromkeys(("field", "hypergradient", "local_classifier"), HYPERGRADIENT),
        "inner_optimizer": _tests("bilevel", "inner_optimizer"),
        "packing": _tests("bilevel", "packing"),
        "supernet": _tests("bilevel", "supernet", "hypergradient"),
        "search_model": _tests("bilevel", "search_model"),
        "callbacks": _tests("bilevel", "callbacks"),
        "snapshots": _tests("bilevel", "snapshots", "checkpoints"),
        "state": _tests("bilevel", "checkpoints"),
    },
    "decoupled": {
        **dict.fromkeys(("block", "model"), MODEL),
        "block_optimizer": [*_tests("decoupled", "block_optimizer"), *MODEL],
        "pipeline": [*_tests("decoupled", "buffer"), *MODEL],
        "placement": _tests("decoupled", "placement"),
        "build": [
            *_tests("decoupled", "build"),
            *_some("decoupled/test_run", "load_run_rebuilds_the_trained_model[predsim]"),
        ],
        "dry_run": _some(
            "decoupled/test_dry_run",
            *("estimate_and_images", "costs_of_one_block_by_hand", "refuses"),
            "the_table_shows_a_blocks_figures",
            "smoke_variants_state_the_synthetic_data",
        ),
        "ensemble": _tests("decoupled", "ensemble"),
        "evaluation": _tests("decoupled", "evaluation"),
        "momentum_sgd": _tests("decoupled", "momentum_sgd"),
        "resume": _tests("decoupled", "resume"),
        "state": _tests("decoupled", "state"),
        "temperature": _tests("decoupled", "temperature"),
    },
}
"""Package to module to tests, in the order in which they run; after the module's own doctests.

Modules that are not here are left out: their tests take minutes a mutant.
"""
OUTPUT = "pytest.log"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        module: its file, from the root.
        operator: cosmic-ray's name of what was done.
        occurrence: to which of the places where it can be done.
        line: from 1.
        was, now: the line, without white space around it.
    """

    module: str
    operator: str
    occurrence: int
    line: int
    was: str
    now: str

    @property
    def key(self) -> tuple[str, ...]:
        """What a verdict holds for; where the line stands does not matter."""
        return self.module, self.operator, str(self.occurrence), self.was, self.now


class _Essence(ast.NodeTransformer):
    """Leaves out what no test can judge."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return None if names == ["__all__"] else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else self.generic_visit(node)


def essence(source: str) -> str | None:
    """What is left of a module without that which no test can judge; None if it is not Python."""
    try:
        return ast.dump(_Essence().visit(ast.parse(source)))
    except SyntaxError:
        return None


def places(module: str) -> list[tuple[str, str, int]]:
    """All (module, operator, occurrence) that cosmic-ray knows for a file."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast_from_path(ROOT / module)))
    found = []
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if not operator.arguments():
            count = sum(len(list(operator().mutation_positions(node))) for node in nodes)
            found += [(module, name, occurrence) for occurrence in range(count)]
    return found


def mutate(module: str, operator: str, occurrence: int) -> str:
    """The source with one fault."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    return mutate_code((ROOT / module).read_text(), get_operator(operator)(), occurrence)


def draw(package: str, sample: int, seed: int) -> tuple[list[Mutant], int, int]:
    """The mutants to be judged; how many places there are, and how many were passed over."""
    modules = [f"sedona_tf/{package}/{name}.py" for name in TESTS[package]]
    everywhere = [place for module in modules for place in places(module)]
    # Each place has its own number, so a change of the code leaves most of the sample as it is.
    everywhere.sort(key=lambda place: random.Random(f"{seed} {place}").random())
    drawn: list[Mutant] = []
    passed_over = 0
    for module, operator, occurrence in everywhere:
        if sample and len(drawn) == sample:
            break
        old, new = (ROOT / module).read_text(), mutate(module, operator, occurrence)
        if essence(new) in (None, essence(old)):
            passed_over += 1
        else:
            drawn.append(Mutant(module, operator, occurrence, *_difference(old, new)))
    return drawn, len(everywhere), passed_over


def _difference(old: str, new: str) -> tuple[int, str, str]:
    """Number of the first line that differs, and what it was and is."""
    before, after = old.splitlines(), new.splitlines()
    blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    _, start, end, first, last = next(block for block in blocks if block[0] != "equal")
    return (
        start + 1,
        " ".join(line.strip() for line in before[start:end]),
        " ".join(line.strip() for line in after[first:last]),
    )


def copy_checkout(folder: Path) -> None:
    """Copies all files that belong to the checkout, as they are now."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def run_pytest(folder: Path, arguments: Sequence[str], cached: bool) -> None:
    """In a child of its own session: runs tests of the copy, and ends with pytest's exit code.

    Byte code is written for what is unchanged alone; a fault may leave a file's size as it was.
    """
    os.setsid()
    os.chdir(folder)
    sys.dont_write_bytecode = not cached
    os.environ["PYTHONDONTWRITEBYTECODE"] = "" if cached else "1"
    sys.path[0] = os.environ["PYTHONPATH"] = str(folder)
    with open(OUTPUT, "wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    import pytest

    os._exit(pytest.main(list(arguments)))


class Judge:
    """Runs the tests of a copy of the checkout.

    Args:
        folder: gets the copy.
        fork: whether children are forked from this process.
        light: whether most tests do without TensorFlow.
    """

    def __init__(self, folder: Path, fork: bool, light: bool) -> None:
        copy_checkout(folder)
        self.folder = folder
        self._context = multiprocessing.get_context("fork" if fork else "spawn")
        self._limits: dict[frozenset[str], float] = {}  # by tests
        if fork:
            runpy.run_path(str(folder / "sedona_tf/kernels.py"))["choose_kernels"]()
            for name in ("numpy", "pytest", "hypothesis", *([] if light else ["keras"])):
                importlib.import_module(name)

    def limit(self, module: str) -> float:
        """Seconds that a module's tests may take.

        Raises:
            SystemExit: if they fail without any fault.
        """
        tests = frozenset(_tests_of(module))
        if tests not in self._limits:
            code, seconds = self._run(module, 600.0, cached=True)
            if code != 0:
                output = (self.folder / OUTPUT).read_text(errors="replace")
                raise SystemExit(f"{output}\nThe tests of {module} end with {code} as it is.")
            self._limits[tests] = 3 * seconds + 10
        return self._limits[tests]

    def verdict(self, mutant: Mutant) -> dict:
        """What becomes of a mutant."""
        limit = self.limit(mutant.module)
        path = self.folder / mutant.module
        source = path.read_text()
        path.write_text(mutate(mutant.module, mutant.operator, mutant.occurrence))
        code, seconds = self._run(mutant.module, limit)
        path.write_text(source)
        outcome = {0: "survived", None: "timed out"}.get(code, "killed")
        return {**dataclasses.asdict(mutant), "outcome": outcome, "seconds": round(seconds, 1)}

    def _run(self, module: str, limit: float, cached: bool = False) -> tuple[int | None, float]:
        """pytest's exit code, None beyond the limit, and seconds."""
        light = ["--noconftest"] if Path(module).stem in PLANS else []
        first, *others = _tests_of(module)
        start = time.monotonic()
        code: int | None = 0
        for tests in ([module, first], others):
            if tests and code == 0:
                arguments = ["-x", "-q", "-p", "no:cacheprovider", "-n", "0", *light, *tests]
                child = self._context.Process(
                    target=run_pytest, args=(self.folder, arguments, cached)
                )
                child.start()
                child.join(max(start + limit - time.monotonic(), 0.0))
                code = child.exitcode
                if code is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.join()
        return code, time.monotonic() - start


def _tests_of(module: str) -> list[str]:
    return TESTS[Path(module).parent.name][Path(module).stem]


def work(mutants: Sequence[Mutant], log: Path, fork: bool) -> None:
    """Judges mutants one after the other and notes each verdict."""
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(Path(folder), fork, "/plans/" in mutants[0].module)
        for number, mutant in enumerate(mutants, 1):
            found = judge.verdict(mutant)
            with open(log, "a") as file:
                file.write(json.dumps(found) + "\n")
            where = f"{Path(mutant.module).name}:{mutant.line}"
            print(f"{number}/{len(mutants)} {found['outcome']}: {where} {mutant.now}", flush=True)


def known(log: Path) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Verdicts by mutant; the later one counts."""
    if log.exists():
        for line in log.read_text().splitlines():
            found = json.loads(line)
            fields = [field.name for field in dataclasses.fields(Mutant)]
            yield Mutant(**{name: found[name] for name in fields}).key, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", choices=list(TESTS), required=True)
    parser.add_argument("--sample", type=int, default=200, help="mutants; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="at a time, each in its own copy")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/mutation")
    parser.add_argument("--fork", action="store_true", help="import TensorFlow only once")
    parser.add_argument("--again", action="store_true", help="test those that survived again")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    log = arguments.output / f"{arguments.package}.jsonl"

    drawn, everywhere, passed_over = draw(arguments.package, arguments.sample, arguments.seed)
    verdicts = dict(known(log))
    again = ("survived",) if arguments.again else ()
    left = [m for m in drawn if m.key not in verdicts or verdicts[m.key]["outcome"] in again]
    print(f"{len(drawn)} mutants of {everywhere} places, {len(left)} to be judged", flush=True)
    jobs = [
        multiprocessing.get_context("spawn").Process(
            target=work, args=(left[index :: arguments.jobs], log, arguments.fork)
        )
        for index in range(arguments.jobs)
        if left[index :: arguments.jobs]
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    if any(job.exitcode for job in jobs):
        raise SystemExit(1)

    verdicts = dict(known(log))
    judged = [verdicts[mutant.key] for mutant in drawn if mutant.key in verdicts]
    counts = Counter(found["outcome"] for found in judged)
    survivors = [found for found in judged if found["outcome"] == "survived"]
    summary = {
        "package": arguments.package,
        "places": everywhere,
        "passed_over": passed_over,
        "mutants": len(judged),
        "killed": counts["killed"],
        "timed_out": counts["timed out"],
        "survived": counts["survived"],
        "score": round(1 - counts["survived"] / max(len(judged), 1), 4),
        "seconds_each": round(sum(f["seconds"] for f in judged) / max(len(judged), 1), 1),
        "survivors": [
            {
                "where": f"{found['module']}:{found['line']}",
                "operator": found["operator"],
                "was": found["was"],
                "now": found["now"],
            }
            for found in sorted(survivors, key=lambda found: (found["module"], found["line"]))
        ],
    }
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
