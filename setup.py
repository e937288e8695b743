"""Package metadata."""

import re
from pathlib import Path

from setuptools import find_packages, setup

INIT = Path(__file__).parent / "sedona_tf/__init__.py"
(VERSION,) = re.findall(r'^__version__ = "(.*)"$', INIT.read_text(), re.M)
SHIPPED = ["sedona_tf.recipes", "sedona_tf.saved_plans", "sedona_tf.saved_plans.published"]
SERVING = ["tensorflow-serving-api>=2.20,<2.22"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=1,<2"]
TEST = [*SERVING, "hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.7", "wheel>=0.40"]

setup(
    name="sedona_tf",
    version=VERSION,
    description="SEDONA on TensorFlow and Keras: search for decoupled neural networks",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["sedona_tf", "sedona_tf.*"]), *SHIPPED],
    # Folders beside the package in a checkout, inside it once installed; see sedona_tf/shipped.py.
    package_dir={"sedona_tf.recipes": "recipes", "sedona_tf.saved_plans": "saved_plans"},
    package_data={
        "sedona_tf": ["py.typed", "*/__init__.pyi", "report/templates/*"],
        **{name: ["*.json", "*.png"] for name in SHIPPED},
    },
    python_requires=">=3.10,<3.14",
    install_requires=[
        "absl-py>=2.1",
        "importlib_resources>=6",  # tensorflow-datasets needs it and does not ask for it
        "jinja2>=3.1",
        "keras>=3.12,<4",
        "keras-tuner>=1.4.7",
        "lazy_loader>=0.4",
        "matplotlib>=3.8",
        "ml_collections>=1.0",
        "msgspec>=0.19",
        "numpy>=1.26",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "tensorboard>=2.20,<2.22",
        "tensorflow>=2.20,<2.22",
        "tensorflow-datasets>=4.9.8",
        "tqdm>=4.66",
        "wrapt>=1.15",
    ],
    entry_points={"console_scripts": ["sedona=sedona_tf.__main__:main"]},
    extras_require={
        "docs": DOCS,
        "serving": SERVING,
        "test": TEST,
        "dev": [*DOCS, *TEST, "import-linter>=2.1", "mypy>=1.11", "ruff>=0.6"],
    },
)
