"""What a recipe may import."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from absl import flags
from sedona_tf import command_line
from sedona_tf.command_line.recipe_flag import define_recipe
define_recipe()
before = list(sys.path)
def main():
    print(flags.FLAGS.recipe.seed, sys.path == before)
command_line.run(main, "Usage.")
"""
RECIPE = """
from ml_collections import config_dict
import settings_of_mine
def get_config():
    from more_of_mine import other
    return config_dict.create(seed=settings_of_mine.seed + other)
"""


def test_a_recipe_imports_what_lies_beside_it(tmp_path):
    """From any working folder, through a link, and only while the recipe is read."""
    folder, elsewhere = tmp_path / "recipes", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "mine.py").write_text(RECIPE)
    (folder / "settings_of_mine.py").write_text("seed = 40\n")
    (folder / "more_of_mine.py").write_text("other = 2\n")
    (elsewhere / "link.py").symlink_to(folder / "mine.py")
    for recipe in ("../recipes/mine.py", folder / "mine.py", "link.py"):
        done = subprocess.run(
            [sys.executable, "-c", CODE, f"--recipe={recipe}"],
            cwd=elsewhere,
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == ("42 True\n", "")
