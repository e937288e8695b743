"""Commands on damaged files of runs: one line and exit code 2, or the checkpoint before."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Sequence

import pytest
from robustness.commands import SEARCH as SHORT_SEARCH
from robustness.damage_files import write_idx, write_sums
from search_runs import DIGITS, command

from sedona_tf.plans import Plan
from sedona_tf.profile.cache import CostCache
from sedona_tf.profile.costs import Costs, PartCost

pytestmark = pytest.mark.robustness
SEARCH = [
    *SHORT_SEARCH,
    "--recipe.search.pretraining_steps=8",
    "--recipe.search.steps=6",
    "--recipe.search.checkpoint_every=2",
]
SMALL = [f"--recipe={DIGITS}", "--recipe.data.limit=200", "--recipe.train.batch_size=32"]
TRAIN = [*SMALL, "--method=dgl", "--blocks=2", "--recipe.train.checkpoint_every=3"]
TUNE = [*SMALL, "--blocks=2", "--max_trials=1"]
DECODE = ["decode", "--plan=search/plan.json", "--blocks=2"]
IDX = ["search", *SEARCH, "--workdir=new", "--recipe.data.source=idx"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A file of the runs' folder and the command that reads it; paths are below that folder.

    Attributes:
        path: a pattern; of several files, the last is damaged.
        command: its name and arguments.
        falls_back: whether the command goes on from the file before, and says so.
    """

    path: str
    command: Sequence[str]
    falls_back: bool = False

    @property
    def damages(self) -> Sequence[str]:
        """What is seen: `"cut"` in half, one bit `"flip"`ped; JSON may be edited, so only cut."""
        return ("cut",) if self.path.endswith((".json", ".config")) else ("cut", "flip")


CASES = [
    Case("search/plan.json", DECODE),
    Case("search/plan.json", ["report", "--workdir=search"]),
    Case("search/history.json", ["report", "--workdir=search"]),
    Case("train/history.json", ["report", "--workdir=train"]),
    Case("train/metrics.json", ["report", "--workdir=train"]),
    Case("costs.json", [*DECODE, "--costs=costs.json"]),
    Case("parts.json", ["profile", *SMALL, "--cache=parts.json", "--workdir=out"]),
    Case("train/decoupling.json", ["evaluate", "--workdir=train"]),
    Case("train/recipe.json", ["evaluate", "--workdir=train"]),
    Case("tune/trials.json", ["tune", *TUNE, "--workdir=tune", "--resume"]),
    Case("tune/tuner/tuner0.json", ["tune", *TUNE, "--workdir=tune", "--resume"]),
    Case("zipped/train-images*", [*IDX, "--recipe.data.data_dir=zipped"]),
    Case("plain/train-images*", [*IDX, "--recipe.data.data_dir=plain"]),
    Case(
        "models/models.config",
        ["export", "--workdir=train", "--output=models/digits"],
    ),
    Case("train/checkpoints/*.npz", ["train", *TRAIN, "--workdir=train", "--resume"], True),
    Case("train/checkpoints/*.npz", ["evaluate", "--workdir=train"], True),
    Case("search/checkpoints/*.npz", ["search", *SEARCH, "--workdir=search", "--resume"], True),
    Case("search/snapshots/*.npz", ["search", *SEARCH, "--workdir=search", "--resume"], True),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of undamaged files, most of them written by the commands."""
    folder = tmp_path_factory.mktemp("whole")
    for name, arguments in (("search", SEARCH), ("train", TRAIN), ("tune", TUNE)):
        done = command(name, *arguments, f"--workdir={name}", cwd=folder)
        assert done.returncode == 0, done.stderr
    plan, part = Plan.load(folder / "search/plan.json"), PartCost(0.1, 0.2, 0.01, 64, 64, 64, 64)
    rows = ((part,) * len(plan.candidates),) * (plan.num_units - 1)
    units = (part,) * plan.num_units
    costs = Costs(plan.backbone, plan.units, plan.candidates, 8, "CPU", units, rows, part)
    costs.save(folder / "costs.json")
    cache = CostCache(folder / "parts.json")
    cache.put("CPU, batch 8", "dense 4 to 2", part)
    cache.save()
    write_idx(folder / "zipped")
    subprocess.run(["gzip", *(folder / "zipped").iterdir()], check=True)
    write_idx(folder / "plain")
    write_sums(folder / "plain")
    (folder / "models").mkdir()
    (folder / "models/models.config").write_text(
        'model_config_list {\n  config { name: "digits" base_path: "/models/digits" }\n}\n'
    )
    return folder


@pytest.mark.parametrize(
    "case, damage",
    [
        pytest.param(case, damage, id=f"{case.command[0]}-{case.path}-{damage}")
        for case in CASES
        for damage in case.damages
    ],
)
def test_a_damaged_file_is_named_in_one_line(whole, tmp_path, case, damage):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    path = sorted(copy.glob(case.path))[-1]
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if damage == "cut":
        del content[middle:]
    else:
        while chr(content[middle]).isspace():
            middle += 1
        content[middle] ^= 1
    path.write_bytes(content)
    done = command(*case.command, cwd=copy)
    said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    if case.falls_back:
        assert (done.returncode, said) == (0, []), done.stderr
        said = [line for line in done.stderr.splitlines() if "Going on from" in line]
    else:
        assert done.returncode == 2, done.stderr
    assert len(said) == 1 and path.name in said[0], done.stderr
    assert "Traceback" not in done.stderr
